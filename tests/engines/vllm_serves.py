"""Our files in vLLM on the CPU. Runs in the vllm environment, one part a process.

merged   the merged directory: distributions over a text against ours
lora     the base as we export it with the PEFT directory as a LoRA: differs from the base, equals ours
served   the merged directory in bf16, as it is served: greedy text, a chat request
compressed   the quantized directories named in GRAFT_COMPRESSED: perplexity against ours
schemes      of the same: the scheme that vLLM finds for each of its linears in config.json against the codes in the file, also where
             the CPU has no kernel for it
blocks       fp8 by blocks of 128, whose rows the run's base may not have: a random base that has them, distributions against ours

Distributions as in transformers_logits.py: KL(vLLM in fp32 || ours in bf16), of blocks KL(ours in fp32 || vLLM in bf16). Two runs in bf16 would differ by twice bf16's own error.
"""
import json
import math
import os
import shutil
import subprocess

from common import KL_LIMIT, LOGITS_ERROR, Run, check, finish, kl, offline, relative_error

offline()
os.environ["VLLM_CPU_INT4_W4A8"] = "0"  # by default a processor with AMX rounds the inputs of int4 linears to int8; the files say 16 bits

import torch  # noqa: E402
import transformers  # noqa: E402
import vllm  # noqa: E402
from safetensors import safe_open  # noqa: E402
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402

QUESTION = [{"role": "user", "content": "How do I rename a table in PostgreSQL?"}]
# Two logits may change places that are this close: in bf16 one rounding at the size of a logit (16 to 32) of each; in fp32 twice
# LOGITS_ERROR of the largest.
TIE_BF16, TIE_F32 = 0.25, 2 * LOGITS_ERROR * 32
TOKENS = 128
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM knows


def engine(path, dtype="float32", **options):
    return vllm.LLM(model=str(path), dtype=dtype, enforce_eager=True, max_model_len=512, max_logprobs=-1, seed=0, **options)


def distributions(llm, ids, **request):
    """log p of the vocabulary after each of ids but the last."""
    # Without detokenize=False vLLM decodes the whole vocabulary for every position, one token at a time: minutes.
    settings = vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=-1, detokenize=False)
    output = llm.generate({"prompt_token_ids": ids}, settings, use_tqdm=False, **request)[0]
    rows = []
    for row in output.prompt_logprobs[1:]:
        values = torch.full((len(row),), -math.inf)
        for token, entry in row.items():
            values[token] = entry.logprob
        rows.append(values)
    return torch.stack(rows)


def relative_error_of_logprob(logprob, logits):
    """vLLM gives log probabilities: logits up to a constant of each position."""
    return relative_error(logits, logprob + torch.logsumexp(logits.double(), -1, keepdim=True))


def greedy(llm, ids, count, **request):
    settings = vllm.SamplingParams(max_tokens=count, temperature=0, ignore_eos=True)
    return list(llm.generate({"prompt_token_ids": ids}, settings, use_tqdm=False, **request)[0].outputs[0].token_ids)


def greedy_agrees(what, run, model, adapter, prompt, continuation, tie):
    """Every token of theirs is our most likely one in fp32, given the same text before it, or nearer to it than `tie`."""
    logits = run.ours(model, [prompt + continuation[:-1]], adapter, compute="f32")[len(prompt) - 1:]
    chosen = logits.gather(1, torch.tensor(continuation)[:, None])[:, 0]
    gap = (logits.max(1).values - chosen).max().item()
    check(f"{what}: {len(continuation)} greedy tokens, largest gap to our best logit", gap, tie)


def compare(what, theirs, run, ids, model, adapter=None):
    check(f"{what}: logits, fp32", relative_error_of_logprob(theirs, run.ours(model, [ids], adapter, compute="f32")[:-1]), LOGITS_ERROR)
    check(f"{what}: KL, bf16", kl(theirs, run.ours(model, [ids], adapter)[:-1]).mean().item(), KL_LIMIT)


def merged(run):
    ids, path = run.heldout()["ids"][0][:TOKENS], run.artifact("hf")
    compare("vLLM, merged directory", distributions(engine(path), ids), run, ids, path)


def served(run):
    llm, prompt = engine(run.artifact("hf"), "bfloat16"), run.heldout()["ids"][0][:24]
    greedy_agrees("vLLM in bf16, merged directory", run, run.artifact("hf"), None, prompt, greedy(llm, prompt, 32), TIE_BF16)
    answer = llm.chat(QUESTION, vllm.SamplingParams(max_tokens=24, temperature=0), use_tqdm=False)[0].outputs[0].text
    print(f"vLLM answers a chat request: {answer!r}")
    words = len(answer.split())
    check("vLLM in bf16, merged directory: words in a chat answer", words, ">= 5", words >= 5 and "<|" not in answer)


def lora(run):
    ids = run.heldout()["ids"][0][:TOKENS]
    llm = engine(run.artifact("hf-base"), enable_lora=True, max_lora_rank=min(rank for rank in RANKS if rank >= run.rank))
    request = {"lora_request": LoRARequest("ours", 1, str(run.artifact("peft")))}
    bare, adapted = distributions(llm, ids), distributions(llm, ids, **request)
    moved = kl(adapted, bare).mean().item()
    check("vLLM, LoRA: KL(adapted || base)", moved, "> 1e-2", moved > 1e-2)
    compare("vLLM, base directory", bare, run, ids, run.base)
    compare("vLLM, LoRA", adapted, run, ids, run.base, run.adapter)
    greedy_agrees("vLLM, LoRA", run, run.base, run.adapter, ids[:24], greedy(llm, ids[:24], 32, **request), TIE_F32)


def compressed(run):
    """Directories whose linears are quantized: perplexity of held-out documents against ours for the same directory."""
    # Rounding inputs to 8 bits moves the score of single tokens up and down: thousands of them, so that it averages out.
    segments = [ids[at:at + 256] for ids in run.heldout()["ids"] for at in range(0, len(ids) - 40, 256)][:20]
    for name in os.environ["GRAFT_COMPRESSED"].split():
        llm = engine(run.artifact(name), "bfloat16", worker_extension_cls="vllm_fp8_worker.Extension" if "fp8" in name else "")
        nll, count = 0.0, 0
        for ids in segments:
            settings = vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1, detokenize=False)
            rows = llm.generate({"prompt_token_ids": ids}, settings, use_tqdm=False)[0].prompt_logprobs[1:]
            nll -= sum(row[token].logprob for row, token in zip(rows, ids[1:]))
            count += len(ids) - 1
        logprob = run.ours(run.artifact(name), segments, storage="f32", compute="f32", logprob=True).double()
        theirs, ours = math.exp(nll / count), math.exp(-logprob.sum().item() / count)
        print(f"{name}: perplexity {theirs:.4f} in vLLM, {ours:.4f} in graft, {count} tokens")
        check(f"vLLM, {name}: perplexity against graft", abs(theirs / ours - 1), 0.01)
        greedy(llm, segments[0][:24], 8)


def schemes(run):
    kinds = {"self_attn.qkv_proj": ("QKVParallelLinear", ["q_proj", "k_proj", "v_proj"]),
             "self_attn.o_proj": ("RowParallelLinear", ["o_proj"]),
             "mlp.gate_up_proj": ("MergedColumnParallelLinear", ["gate_proj", "up_proj"]),
             "mlp.down_proj": ("RowParallelLinear", ["down_proj"])}
    for name in os.environ["GRAFT_COMPRESSED"].split():
        directory = run.artifact(name)
        config = json.loads((directory / "config.json").read_text())
        quantization = CompressedTensorsConfig.from_config(config["quantization_config"])
        quantization.packed_modules_mapping = {linear.split(".")[1]: parts for linear, (_, parts) in kinds.items() if len(parts) > 1}
        found, widths = 0, set()
        with safe_open(directory / "model.safetensors", "pt") as file:
            for layer in range(config["num_hidden_layers"]):
                for linear, (kind, parts) in kinds.items():
                    module = f"model.layers.{layer}.{linear}"
                    scheme = quantization.get_scheme(type(kind, (torch.nn.Module,), {})(), module)
                    for part in parts:
                        stored = f"{module.rsplit('.', 1)[0]}.{part}.weight"
                        columns = file.get_tensor(f"{stored}_shape")[1].item()
                        bits = 32 * file.get_slice(f"{stored}_packed").get_shape()[1] // columns
                        groups = file.get_slice(f"{stored}_scale").get_shape()[1]
                        zeros = f"{stored}_zero_point" in file.keys()
                        found += (bits == 32 // scheme.pack_factor and zeros == (not scheme.symmetric)
                                  and groups == (1 if scheme.group_size == -1 else columns // scheme.group_size))
                        widths.add(bits)
        count = config["num_hidden_layers"] * sum(len(parts) for _, parts in kinds.values())
        check(f"vLLM, {name}: linears of {sorted(widths)} bits read as they are stored", found, count, found == count)


def blocks(run):
    """On a CPU with AMX vLLM multiplies blocks by inputs in bf16: ours without rounding them."""
    base, out = run.work / "blocks-base", run.work / "blocks"
    for directory in (base, out):
        shutil.rmtree(directory, ignore_errors=True)
    base.mkdir()
    for file in run.artifact("hf-base").glob("tokenizer*"):
        shutil.copy(file, base)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=49152, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.1)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(base)
    formats = ["fp8-block", "ct-fp8-block"]
    subprocess.run([run.build / "export_files", base, "-", out, *formats], check=True, stdout=subprocess.DEVNULL)
    ids = run.heldout()["ids"][0][:TOKENS]
    for name in formats:
        theirs = distributions(engine(out / name, "bfloat16"), ids)
        ours = run.ours(out / name, [ids], storage="f32", compute="f32", plain_inputs=True)[:-1]
        check(f"vLLM, {name}, random base: KL, bf16", kl(ours, theirs).mean().item(), KL_LIMIT)
        apart = kl(ours, torch.zeros_like(ours)).mean().item()
        check(f"vLLM, {name}, random base: KL to equal odds", apart, "> 0.1", apart > 0.1)


def main():
    run = Run()
    print(f"vLLM {vllm.__version__}, torch {torch.__version__}")
    {"merged": merged, "lora": lora, "served": served, "compressed": compressed, "schemes": schemes, "blocks": blocks}[run.part](run)
    finish()


if __name__ == "__main__":
    main()
