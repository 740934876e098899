"""Makes the goldens of tests/export/quantize_test.cpp: what llama.cpp's quantizers and compressed-tensors make of the same weights.

    <engines>/hf/bin/python tests/golden/export/quantize/make.py <engines>/llama.cpp/build/bin

Writes beside this file: weights.f32 (rows of 256), <TYPE>.blocks by ggml_quantize_chunk; importance.f32 (256), <TYPE>.imatrix.blocks
with those importance weights, of rows of 256 for the K types and of 160 for the others; types.json, the type of each tensor that
llama-quantize chose for files of several shapes; compressed.safetensors by compressed_tensors' own compressors.
"""
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

HERE, BIN = pathlib.Path(__file__).resolve().parent, pathlib.Path(sys.argv[1])
BLOCK_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
FILE_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K"]


def weights():
    rng = np.random.default_rng(11)
    rows = [rng.normal(size=256) * 0.02 for _ in range(6)]
    rows += [rng.standard_t(3, size=256) * 0.05, rng.laplace(size=256), np.abs(rng.normal(size=256)) + 0.5, -np.abs(rng.normal(size=256))]
    rows += [np.zeros(256), np.full(256, 0.75), np.full(256, -0.75), np.where(rng.random(256) < 0.02, 1.0, 0.0)]
    rows += [np.arange(256) - 128.0, rng.normal(size=256) * np.repeat(np.exp2(rng.integers(-12, 3, 16)), 16)]
    rows += [np.repeat([1.0, 0.0, -1.0, 0.0], 64), rng.normal(size=256) * 1e-9, rng.integers(-8, 9, 256) / 8.0]
    rounded = rng.normal(size=256).astype(np.float32).view(np.uint32) & 0xFFFF0000  # as bf16 weights are
    return np.concatenate([np.array(rows, dtype=np.float32), rounded.view(np.float32)[None]])


def blocks(values, importance):
    ggml = ctypes.CDLL(str(BIN / "libggml-base.so"))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    for name in BLOCK_TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        out = np.zeros(values.size // block * size, dtype=np.uint8)
        for columns, weights, suffix in [(256, None, "blocks"), (256 if block == 256 else 160, importance.ctypes.data, "imatrix.blocks")]:
            written = ggml.ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, values.size // columns, columns, weights)
            assert written == out.size
            out.tofile(HERE / f"{name}.{suffix}")


# name: architecture, layers, heads, kv heads, experts, tied head, columns, columns of ffn_down
SHAPES = {
    "tied": ("llama", 10, 4, 2, 0, True, 256, 512), "rows of 96": ("llama", 9, 4, 2, 0, False, 96, 256),
    "rows of 40": ("llama", 3, 4, 2, 0, False, 40, 96), "70B": ("llama", 80, 8, 2, 0, False, 256, 256),
    "80 layers of qwen2": ("qwen2", 80, 4, 4, 0, False, 256, 256), "fused": ("phi3", 12, 4, 4, 0, False, 256, 512),
    "8 experts": ("llama", 12, 4, 2, 8, False, 256, 512), "4 experts": ("qwen3moe", 12, 4, 2, 4, False, 256, 512),
    "gemma": ("gemma2", 13, 4, 2, 0, True, 288, 512),
}


def tensors_of(architecture, layers, experts, tied, columns, down):
    names = {"token_embd.weight": columns, "output_norm.weight": None}
    if not tied:
        names["output.weight"] = columns
    for i in range(layers):
        attention = ["attn_qkv"] if architecture == "phi3" else ["attn_q", "attn_k", "attn_v"]
        for name in attention + ["attn_output"]:
            names[f"blk.{i}.{name}.weight"] = columns
        names[f"blk.{i}.attn_norm.weight"] = None
        suffix = "_exps" if experts else ""
        for name in ["ffn_up"] if architecture == "phi3" else ["ffn_gate", "ffn_up"]:
            names[f"blk.{i}.{name}{suffix}.weight"] = columns
        names[f"blk.{i}.ffn_down{suffix}.weight"] = down
        if experts:
            names[f"blk.{i}.ffn_gate_inp.weight"] = columns
    return names


def types():
    result = {}
    with tempfile.TemporaryDirectory() as scratch:
        for case, (architecture, layers, heads, kv_heads, experts, tied, columns, down) in SHAPES.items():
            names = tensors_of(architecture, layers, experts, tied, columns, down)
            source, target = pathlib.Path(scratch) / "in.gguf", pathlib.Path(scratch) / "out.gguf"
            writer = gguf.GGUFWriter(source, architecture)
            writer.add_block_count(layers)
            writer.add_context_length(256)
            writer.add_embedding_length(columns)
            writer.add_feed_forward_length(down)
            writer.add_head_count(heads)
            writer.add_head_count_kv(kv_heads)
            writer.add_layer_norm_rms_eps(1e-5)
            writer.add_rope_dimension_count(columns // heads)
            writer.add_vocab_size(8)
            writer.add_sliding_window(64)
            if experts:
                writer.add_expert_count(experts)
                writer.add_expert_used_count(2)
                writer.add_expert_feed_forward_length(down)
            for name, size in names.items():
                shape = (columns,) if size is None else (experts, 2, size) if name.endswith("_exps.weight") else (2, size)
                writer.add_tensor(name, np.ones(shape, dtype=np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            chosen = {}
            for file_type in FILE_TYPES:
                subprocess.run([BIN / "llama-quantize", source, target, file_type, "1"], check=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
                found = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(target).tensors}
                chosen[file_type] = " ".join(found[name] for name in names)
            result[case] = {"family": {"llama": "llama", "qwen2": "qwen2", "phi3": "phi3", "qwen3moe": "qwen3_moe", "gemma2": "gemma2"}[architecture],
                            "layers": layers, "heads": heads, "kv_heads": kv_heads, "experts": experts, "tied": tied,
                            "names": list(names), "columns": [size or 0 for size in names.values()], "types": chosen}
    (HERE / "types.json").write_text(json.dumps(result))


# name: format, bits, type, strategy, group, symmetric
SCHEMES = {"w4a16_g32": ("pack-quantized", 4, "int", "group", 32, True), "w4a16_g64": ("pack-quantized", 4, "int", "group", 64, True),
           "w8a16_g128": ("pack-quantized", 8, "int", "group", 128, True), "w8a8": ("int-quantized", 8, "int", "channel", None, True),
           "fp8": ("float-quantized", 8, "float", "channel", None, True),
           "w4a16_asym_g64": ("pack-quantized", 4, "int", "group", 64, False)}


def compressed():
    torch.manual_seed(5)
    weight = (torch.randn(24, 128) * torch.exp2(torch.randint(-6, 1, (24, 1)).float())).to(torch.bfloat16).float()
    weight[3, :64] = 0
    saved = {"weight": weight}
    for name, (form, bits, kind, strategy, group, symmetric) in SCHEMES.items():
        args = QuantizationArgs(num_bits=bits, type=kind, strategy=strategy, group_size=group, symmetric=symmetric)
        grouped = weight.unflatten(-1, (-1, group or 128))
        scale, zero = calculate_qparams(grouped.amin(-1), grouped.amax(-1), args)
        # Zero groups get eps of the type that scales have; ours are bf16.
        scale = torch.where(grouped.abs().amax(-1) == 0, torch.tensor(torch.finfo(torch.bfloat16).eps), scale.to(torch.bfloat16).float())
        compressor = BaseCompressor.get_value_from_registry(form)
        scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
        state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
        packed = compressor.compress(state, scheme)
        saved.update({f"{name}.{key}": value.contiguous() for key, value in packed.items()})
        saved[f"{name}.decompressed"] = compressor.decompress(packed, scheme)["weight"].float().contiguous()
    save_file(saved, HERE / "compressed.safetensors")


if __name__ == "__main__":
    values = weights()
    values.tofile(HERE / "weights.f32")
    importance = np.exp(2 * np.random.default_rng(12).normal(size=256)).astype(np.float32)
    importance[40:44] = 0  # inputs that never came
    importance.tofile(HERE / "importance.f32")
    blocks(values, importance)
    types()
    compressed()
