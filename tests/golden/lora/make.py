#!/usr/bin/env python3
"""Writes tests/golden/lora/{lora,rslora,pattern}/ with PEFT: adapters of a tiny Llama with random A and B, and the merged
weight of one module. Run with peft, transformers, safetensors and torch installed; the files are committed."""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
MODULE = "model.layers.1.mlp.down_proj"


def make(name, dtype=torch.float32, **lora):
    torch.manual_seed(3)
    base = LlamaForCausalLM(LlamaConfig(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                                        num_attention_heads=4, num_key_value_heads=2, head_dim=8))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.05, **lora))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value) * 0.1)
    weight = dict(base.named_modules())[MODULE]
    before = weight.base_layer.weight.detach().clone()
    for _, value in model.named_parameters():
        value.data = value.data.to(dtype)
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    config = HERE / name / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=1, sort_keys=True) + "\n")
    delta = weight.get_delta_weight("default").float()
    save_file({"before": before, "after": (before + delta).contiguous()}, HERE / name / "merged.safetensors")


make("lora", r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
make("rslora", r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "down_proj"])
make("pattern", dtype=torch.bfloat16, r=2, lora_alpha=3, target_modules=r".*layers\.1\.(self_attn\.o|mlp\.down)_proj")
