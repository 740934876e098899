#!/usr/bin/env python3
"""Writes tests/golden/core/ with the Python libraries that GGUF and safetensors are judged against.

Needs numpy, gguf (0.19.0) and safetensors. The files are committed; run this only to add a case:
    python scripts/make_golden_gguf.py tests/golden/core
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy

BLOCKS = 3
# type: offsets of the f16 fields in one block
TYPES = {
    "F32": [], "F16": [], "BF16": [], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def dequantized(out, rng):
    """<type>.blocks: raw blocks; <type>.f32: what gguf.quants.dequantize makes of them."""
    for name, halves in TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = BLOCKS if block > 1 else 96
        raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if name in ("F32", "F16", "BF16"):
            values = np.concatenate([rng.normal(size=count - 6), [0.0, -0.0, 6e-8, -3e-5, 65504.0, -1e-7]]).astype(np.float32)
            raw = gguf.quants.quantize(values, kind).view(np.uint8).reshape(count, size)
        for offset in halves:
            scales = rng.normal(size=count).astype(np.float16)
            scales[0] = np.float16(3e-6)  # subnormal
            raw[:, offset:offset + 2] = scales.view(np.uint8).reshape(count, 2)
        if name == "F32":
            decoded = raw.view(np.float32)
        else:
            decoded = gguf.quants.dequantize(raw.reshape(1, -1), kind)
        raw.tofile(out / f"{name}.blocks")
        np.ascontiguousarray(decoded, dtype=np.float32).tofile(out / f"{name}.f32")


def quantized(out, rng):
    """quantize.f32 and what gguf.quants.quantize makes of it: quantize.<type>."""
    values = (rng.normal(size=1024) * np.exp(rng.normal(size=1024) * 4)).astype(np.float32)
    values[:32] = 0
    values[32:64] = np.arange(-16, 16) * 0.5 + 0.25  # ties of f16 and bf16, and of Q8_0 where the scale divides
    values[64:96] = np.ldexp(np.arange(32) * 2 + 1, -26).astype(np.float32)  # subnormals of f16 and their ties
    values[96:128] = np.float32(1) + np.ldexp(np.arange(32), -12).astype(np.float32)
    values[128] = 127
    values[129:160] = np.arange(31) - 15.5  # scale 1: round half away from zero
    values[160:192] = 1e-40  # 1/scale overflows; the scale is zero in f16
    values[192:196] = [65519.9, 65520, -65520, 3e38]
    values.tofile(out / "quantize.f32")
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("F16", "BF16", "Q8_0"):
            gguf.quants.quantize(values, gguf.GGMLQuantizationType[name]).tofile(out / f"quantize.{name}")


def containers(out):
    writer = gguf.GGUFWriter(out / "sample.gguf", "llama")
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint32("test.u32", 4000000000)
    writer.add_int32("test.i32", -2000000000)
    writer.add_float32("test.f32", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "naïve ✓")
    writer.add_uint64("test.u64", 2**64 - 1)
    writer.add_int64("test.i64", -2**63)
    writer.add_float64("test.f64", 0.1)
    writer.add_array("test.strings", ["a", "", "ĠĊ"])
    writer.add_array("test.integers", [1, -2, 3])
    writer.add_array("test.numbers", [0.5, -1.5])
    writer.add_tensor("a.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("b.weight", np.arange(5, dtype=np.float16))
    blocks = gguf.quants.quantize(np.linspace(-1, 1, 2 * 3 * 64, dtype=np.float32).reshape(2, 3, 64),
                                  gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("c.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    safetensors.numpy.save_file(
        {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(4, dtype=np.float16), "c": np.array(7, dtype=np.uint8),
         "empty": np.zeros((0, 5), dtype=np.int64)}, out / "sample.safetensors", metadata={"format": "pt"})


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    dequantized(out, rng)
    quantized(out, rng)
    containers(out)


if __name__ == "__main__":
    main()
