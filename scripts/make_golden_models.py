#!/usr/bin/env python3
"""Writes tests/golden/models/: tiny random models of every family with the answers of transformers and PEFT.

Needs transformers 5.23, peft 0.21.2, safetensors, gguf (see scripts/test-engines). Each folder <name>/ holds
  config.json, model.safetensors      the base, as transformers saves it (config_v4.json: the same in the style of version 4)
  model.gguf                          for some: the same weights in GGUF, named by the gguf package's own table
  adapter/                            a PEFT adapter with non-zero B on every linear (all but experts)
  golden.safetensors                  tokens, starts, labels (already shifted, -100 = no loss) of packed documents;
                                      logits (T, V) and adapter_logits of each document run alone; loss_sum, adapter_loss_sum
                                      (1) F64, sums of -log p over trained tokens; grad.<tensor of the adapter>: gradient of
                                      adapter_loss_sum / trained tokens
Everything is computed in f32 with eager attention.
"""

import copy
import json
import pathlib
import shutil
import sys
import zlib

import gguf
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "models"
LENGTHS = [13, 1, 22]  # documents; the longest is longer than every sliding window and longrope's original context
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BASE = dict(vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)


def rope(theta=10000.0, **rest):
    return {"rope_type": "default", "rope_theta": theta, **rest}


LLAMA3 = rope(50.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = rope(100.0, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, original_max_position_embeddings=16)
LONGROPE = rope(rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.5, 2.5, 4.0, 6.0],
                original_max_position_embeddings=16)
GEMMA = dict(head_dim=16, num_key_value_heads=1, eos_token_id=1, bos_token_id=2)

# name: (config class, config, target modules, dtype on disk, GGUF architecture or None, rsLoRA)
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
MODELS = {
    "llama": ("Llama", dict(rope_parameters=rope()), ALL + ["lm_head"], F32, "llama", False),
    "llama_rope3": ("Llama", dict(rope_parameters=LLAMA3), ALL, BF16, "llama", False),
    "llama_yarn": ("Llama", dict(rope_parameters=YARN, head_dim=16), ALL, BF16, "llama", False),
    "llama_linear": ("Llama", dict(rope_parameters=rope(rope_type="linear", factor=2.0), attention_bias=True, mlp_bias=True),
                     ALL, BF16, "llama", False),
    "smollm2": ("Llama", dict(rope_parameters=rope(100000.0), tie_word_embeddings=True, num_hidden_layers=3,
                              num_attention_heads=3, num_key_value_heads=1, hidden_size=36), ALL, F16, "llama", False),
    "smollm3": ("SmolLM3", dict(rope_parameters=rope(5e6), no_rope_layer_interval=4, num_hidden_layers=4,
                                tie_word_embeddings=True), ALL, BF16, "smollm3", False),
    "mistral": ("Mistral", dict(rope_parameters=rope(), sliding_window=5, head_dim=10), ALL, BF16, None, False),
    "mixtral": ("Mixtral", dict(rope_parameters=rope(1e6), sliding_window=None, num_local_experts=4, num_experts_per_tok=2,
                                intermediate_size=24), ALL[:4], BF16, "llama", False),
    "qwen2": ("Qwen2", dict(rope_parameters=rope(1e6), use_sliding_window=True, sliding_window=5, max_window_layers=1),
              ALL, F32, None, True),
    "qwen2_full": ("Qwen2", dict(rope_parameters=rope(1e6), tie_word_embeddings=True), ALL, BF16, "qwen2", False),
    "qwen3": ("Qwen3", dict(rope_parameters=rope(1e6), head_dim=16), ALL, BF16, "qwen3", False),
    "qwen3_moe": ("Qwen3Moe", dict(rope_parameters=rope(1e6), head_dim=16, num_experts=4, num_experts_per_tok=2,
                                   moe_intermediate_size=24, norm_topk_prob=True), ALL[:4], BF16, "qwen3moe", False),
    "gemma": ("Gemma", dict(rope_parameters=rope(), **GEMMA), ALL, BF16, "gemma", False),
    "gemma2": ("Gemma2", dict(rope_parameters=rope(), sliding_window=5, attn_logit_softcapping=4.0,
                              final_logit_softcapping=6.0, query_pre_attn_scalar=20, **GEMMA), ALL, BF16, None, False),
    "gemma3": ("Gemma3Text", dict(rope_parameters={"sliding_attention": rope(100.0),
                                                   "full_attention": rope(1e6, rope_type="linear", factor=8.0)},
                                  sliding_window=5, num_hidden_layers=7, hidden_size=16, intermediate_size=20,
                                  query_pre_attn_scalar=16, **GEMMA), ALL, BF16, "gemma3", False),
    "phi3": ("Phi3", dict(rope_parameters=rope(partial_rotary_factor=0.5), head_dim=8, sliding_window=5),
             ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], F32, None, False),
    "phi3_longrope": ("Phi3", dict(rope_parameters=LONGROPE, original_max_position_embeddings=16),
                      ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], BF16, "phi3", False),
}


def randomize(model, dtype):
    """Values of the size of trained ones: every norm, bias and router matters. Rounded to the type on disk."""
    zero_centred = "Gemma" in type(model).__name__
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("norm.weight"):
                p.copy_((0 if zero_centred else 1) + 0.3 * torch.randn(p.shape))
            elif name.endswith("bias"):
                p.normal_(0, 0.3)
            elif "embed_tokens" in name:
                p.normal_(0, 0.4)
            else:
                p.normal_(0, 1.2 / p.shape[-1] ** 0.5)
            p.copy_(p.to(dtype).float())


def documents(vocab):
    tokens = torch.randint(3, vocab, (sum(LENGTHS),))
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    labels = torch.full_like(tokens, -100)
    for a, b in zip(starts, starts[1:]):
        labels[a : b - 1] = tokens[a + 1 : b]
    labels[4:7] = -100  # a user's turn in the middle
    return tokens, starts, labels


def run(model, tokens, starts, labels):
    """Logits of each document alone and the summed loss, differentiable."""
    logits = torch.cat([model(tokens[None, a:b]).logits[0] for a, b in zip(starts, starts[1:])])
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, ignore_index=-100, reduction="sum")
    return logits, loss


def version4(config):
    """The same config in the style of transformers 4."""
    old = dict(config)
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.46.0"
    ropes = old.pop("rope_parameters")
    if "full_attention" in ropes:
        old["rope_local_base_freq"] = ropes["sliding_attention"]["rope_theta"]
        ropes = dict(ropes["full_attention"])
        old.pop("layer_types")
        old["sliding_window_pattern"] = 6
    ropes = dict(ropes)
    old["rope_theta"] = ropes.pop("rope_theta")
    if "partial_rotary_factor" in ropes:
        old["partial_rotary_factor"] = ropes.pop("partial_rotary_factor")
    kind = ropes.pop("rope_type")
    if kind == "longrope":  # Phi3Config takes three keys
        ropes = {key: ropes[key] for key in ("short_factor", "long_factor")}
    old["rope_scaling"] = None if kind == "default" else {"rope_type" if kind in ("llama3", "yarn") else "type": kind, **ropes}
    return old


def write_gguf(path, architecture, model, config, dtype):
    """The twin, with the gguf package's own names and keys; transforms as llama.cpp's converter does them."""
    writer = gguf.GGUFWriter(path, architecture)

    def tensor(name, values):  # matrices in the type on disk, vectors in F32, as the converter does
        values = np.ascontiguousarray(values)
        if values.ndim == 1 or "ffn_gate_inp" in name or dtype == F32:
            writer.add_tensor(name, values)
        elif dtype == F16:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8),
                              raw_dtype=gguf.GGMLQuantizationType.BF16)

    writer.add_type("model")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_dim != config.hidden_size // config.num_attention_heads:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    ropes = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(ropes["rope_theta"])
    if "sliding_attention" in config.rope_parameters:
        writer.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    kind = ropes["rope_type"]
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(ropes["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(ropes["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(ropes["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(ropes["beta_slow"])
    if kind == "llama3":
        rotary = model.model.rotary_emb
        plain = 1 / ropes["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / rotary.inv_freq).float().numpy())
    if kind == "longrope":
        writer.add_rope_scaling_orig_ctx_len(ropes["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(model.model.rotary_emb.attention_scaling)
        writer.add_tensor("rope_factors_long.weight", np.array(ropes["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(ropes["short_factor"], np.float32))
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    experts = getattr(config, "num_local_experts", 0)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        if architecture == "qwen3moe":
            writer.add_expert_feed_forward_length(config.moe_intermediate_size)

    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, p in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        w = p.detach().float().numpy()
        if architecture in ("llama", "smollm3") and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            w = w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            w = w + np.float32(1)
        if name.endswith("experts.gate_up_proj"):  # (experts, 2 ffn, hidden) in transformers 5
            block = name.split(".")[2]
            gate, up = np.split(w, 2, axis=1)
            tensor(f"blk.{block}.ffn_gate_exps.weight", gate)
            tensor(f"blk.{block}.ffn_up_exps.weight", up)
        elif name.endswith("experts.down_proj"):
            tensor(f"blk.{name.split('.')[2]}.ffn_down_exps.weight", w)
        else:
            target = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert target, name
            tensor(target, w)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(name):
    kind, options, targets, dtype, gguf_architecture, rslora = MODELS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = getattr(transformers, kind + "Config")(**{**BASE, **options})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if hasattr(model, "set_experts_implementation") and "moe" in name + kind.lower() or kind == "Mixtral":
        model.set_experts_implementation("eager")
    randomize(model, dtype)
    tokens, starts, labels = documents(config.vocab_size)
    if gguf_architecture:
        write_gguf(folder / "model.gguf", gguf_architecture, model, config, dtype)
    copy.deepcopy(model).to(dtype).save_pretrained(folder)  # a copy: to() rounds the rotary frequencies too
    (folder / "generation_config.json").unlink(missing_ok=True)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config_v4.json").write_text(json.dumps(version4(saved), indent=2) + "\n")

    with torch.no_grad():
        logits, loss = run(model, tokens, starts, labels)
    golden = {"tokens": tokens.int(), "starts": torch.tensor(starts).int(), "labels": labels, "logits": logits.float(),
              "loss_sum": loss.double().reshape(1)}

    lora = peft.LoraConfig(r=4, lora_alpha=8, use_rslora=rslora, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, lora).eval()
    trained = {n: p for n, p in adapted.named_parameters() if "lora_" in n}
    with torch.no_grad():
        for p in trained.values():
            p.normal_(0, 0.15)
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    config_path = folder / "adapter" / "adapter_config.json"
    written = json.loads(config_path.read_text())
    written["target_modules"] = sorted(written["target_modules"])  # a set: its order changes from run to run
    config_path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    logits, loss = run(adapted, tokens, starts, labels)
    (loss / (labels != -100).sum()).backward()
    golden["adapter_logits"] = logits.detach().float()
    golden["adapter_loss_sum"] = loss.detach().double().reshape(1)
    for n, p in trained.items():
        golden["grad." + n.replace(".default", "")] = p.grad
    # (PEFT would add the whole base embedding when the head has an adapter.)
    saved_names = set(load_file(folder / "adapter" / "adapter_model.safetensors"))
    assert saved_names == {n.replace(".default", "") for n in trained}
    save_file({n: t.contiguous() for n, t in golden.items()}, folder / "golden.safetensors")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: {size / 1024:.0f} KiB, loss {float(golden['loss_sum'][0]):.3f} -> {float(golden['adapter_loss_sum'][0]):.3f}, "
          f"largest logit {logits.abs().max():.2f}, smallest gradient norm {min(float(p.grad.norm()) for p in trained.values()):.2e}")


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
