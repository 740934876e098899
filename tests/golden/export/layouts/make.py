"""Makes the goldens of tests/export/layouts_test.cpp: what vLLM, compressed-tensors and bitsandbytes make of the same weights.

    PYTHONPATH=<bitsandbytes 0.50.2> <engines>/vllm/bin/python tests/golden/export/layouts/make.py

Writes layouts.safetensors beside this file. Codes and rounded inputs come of compressed-tensors' quantizer, words of vLLM's packers, values of a plain
product here; NF4 is bitsandbytes' own.
"""
import json
import pathlib

import bitsandbytes.functional as bnb
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file
from vllm.model_executor.layers.quantization.utils.quant_utils import awq_pack, gptq_pack

HERE = pathlib.Path(__file__).resolve().parent
OUT, IN, GROUP = 16, 128, 32  # rows of 96 are read wrongly by bitsandbytes' kernel for the CPU
saved = {}

torch.manual_seed(7)
weight = (torch.randn(OUT, IN) * torch.exp2(torch.randint(-6, 1, (OUT, 1)).float())).to(torch.bfloat16).float()
weight[3, :32] = 0
saved["weight"] = weight.to(torch.bfloat16)


def int4(symmetric):
    args = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=GROUP, symmetric=symmetric)
    grouped = weight.unflatten(-1, (-1, GROUP))
    scale, zero = calculate_qparams(grouped.amin(-1), grouped.amax(-1), args)
    scale = torch.where(grouped.abs().amax(-1) == 0, torch.tensor(2.0**-7), scale.to(torch.bfloat16).float())
    if not symmetric:  # of the rounded scale, as graft chooses it
        zero = torch.clamp(torch.round(-8 - grouped.amin(-1).clamp(max=0) / scale), -8, 7)
    codes = quantize(weight, scale, zero.to(torch.int8), args, dtype=torch.int8).to(torch.int32)
    values = (codes.unflatten(-1, (-1, GROUP)) - zero.unsqueeze(-1).float()) * scale.unsqueeze(-1)
    return codes, scale, zero.to(torch.int32), values.flatten(1)


codes, scale, _, values = int4(True)
saved["gptq.qweight"] = gptq_pack((codes.t() + 8).contiguous(), 4, IN, OUT)
saved["gptq.qzeros"] = torch.full((IN // GROUP, OUT // 8), 0x77777777, dtype=torch.int32)
saved["gptq.g_idx"] = torch.arange(IN, dtype=torch.int32) // GROUP
saved["gptq.scales"] = scale.t().to(torch.float16).contiguous()
saved["gptq.values"] = values

# Act-order and the second version of zero points, as others write them: groups of shuffled columns, random zero points.
shuffled = torch.randperm(IN)
zeros = torch.randint(0, 16, (IN // GROUP, OUT))
group = torch.empty(IN, dtype=torch.int32)
group[shuffled] = torch.arange(IN, dtype=torch.int32) // GROUP
saved["gptq_v2.g_idx"] = group
saved["gptq_v2.qzeros"] = sum(zeros[:, k::8].to(torch.int64) << (4 * k) for k in range(8)).to(torch.int32)
saved["gptq_v2.values"] = ((codes + 8) - zeros.t()[:, group.long()]) * scale[:, group.long()]

codes, scale, zero, values = int4(False)
saved["awq.qweight"] = awq_pack((codes.t() + 8).contiguous(), 4, IN, OUT)
saved["awq.qzeros"] = awq_pack((zero.t() + 8).contiguous(), 4, IN // GROUP, OUT)
saved["awq.scales"] = scale.t().to(torch.float16).contiguous()
saved["awq.values"] = values


def fp8(rows, columns):  # tile by tile
    scale = torch.empty(-(-OUT // rows), -(-IN // columns))
    codes, values = torch.empty(OUT, IN, dtype=torch.float8_e4m3fn), torch.empty(OUT, IN)
    for i in range(scale.size(0)):
        for j in range(scale.size(1)):
            tile = (slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns))
            scale[i, j] = weight[tile].abs().max() / 448 or 2.0**-7
            codes[tile] = (weight[tile] / scale[i, j]).clamp(-448, 448).to(torch.float8_e4m3fn)
            values[tile] = codes[tile].float() * scale[i, j]
    return scale, codes, values


for name, rows, columns in [("fp8", OUT, IN), ("fp8_rows", 1, IN), ("fp8_ragged", 10, 40), ("fp8_block", 8, 32)]:
    for key, tensor in zip(("scale", "codes", "values"), fp8(rows, columns)):
        saved[f"{name}.{key}"] = tensor.contiguous()

# Blocks by compressed-tensors' own compressor, from the same scales.
args = QuantizationArgs(num_bits=8, type="float", strategy="block", block_structure=[8, 32], symmetric=True)
scheme = QuantizationScheme(targets=["Linear"], weights=args, format="float-quantized")
compressor = BaseCompressor.get_value_from_registry("float-quantized")
packed = compressor.compress({"weight": weight, "weight_scale": saved["fp8_block.scale"]}, scheme)
assert torch.equal(packed["weight"].view(torch.uint8), saved["fp8_block.codes"].view(torch.uint8))
assert torch.equal(compressor.decompress(packed, scheme)["weight"].float(), saved["fp8_block.values"])

# NF4: 264 blocks make two groups.
large = torch.randint(-127, 128, (132, 128), dtype=torch.int8) >> torch.randint(0, 5, (132, 1), dtype=torch.int8)
large[5] = 0
saved["large"] = large
for name, source in [("nf4", weight), ("nf4_large", large.float())]:
    packed, state = bnb.quantize_4bit(source, blocksize=64, compress_statistics=True, quant_type="nf4")
    parts = state.as_dict(packed=True)
    saved[f"{name}.codes"] = packed
    for key in ("absmax", "nested_absmax"):
        saved[f"{name}.{key}"] = parts[key]
    if name == "nf4":
        for key, value in parts.items():
            saved[f"nf4.{key}"] = value
        saved["nf4.values"] = bnb.dequantize_4bit(packed, state).float()
        packed, state = bnb.quantize_4bit(source, blocksize=64, compress_statistics=False, quant_type="nf4")
        saved["nf4_plain.absmax"] = state.absmax
        saved["nf4_plain.quant_state"] = state.as_dict(packed=True)["quant_state.bitsandbytes__nf4"]
        saved["nf4_plain.values"] = bnb.dequantize_4bit(packed, state).float()
    else:
        saved[f"{name}.offset"] = state.offset.reshape(1)

# Inputs of linears on one fixed scale (FP8 static) by compressed-tensors' own quantizer; some lie beyond what calibration saw.
args = QuantizationArgs(num_bits=8, type="float", strategy="tensor", symmetric=True, dynamic=False)
inputs = torch.randn(6, 48) * torch.exp2(torch.randint(-9, 2, (6, 1)).float())
inputs[4, 7] = 900
saved["inputs"] = inputs
saved["inputs.scale"] = inputs[:4].abs().max().reshape(1) / 448
saved["inputs.rounded"] = fake_quantize(inputs, saved["inputs.scale"], torch.zeros(1), args)

save_file({key: value.contiguous() for key, value in saved.items()}, HERE / "layouts.safetensors")
print(json.dumps({key: list(value.shape) for key, value in saved.items()}))
