"""Our logits against transformers', and against peft's with an adapter.

families   tiny random model of each family (tests/golden/models): fp32; bf16; the merged directory that we export, in transformers
base       the base of a run, read by transformers itself (its own GGUF reader when the base is a GGUF file): fp32; bf16
run        the run's PEFT directory in peft, on the base as we export it, and the merged directory in transformers

fp32: largest |difference| over largest |logit|. bf16: KL(transformers in fp32 || ours in bf16), mean over tokens, on equal weights.
The tiny models' random adapters move weights by a third to all of their size, where bf16 itself is further off than the limit
(peft's too); the quickstart's, trained on the whole manual, moves them by 0.06 to 0.26. In bf16 a quarter of them is compared,
of mixtures the median over tokens, for one near a tie of the router takes another expert, in peft's bf16 as in ours.
"""
import json
import pathlib
import shutil
import subprocess
import tempfile

from common import KL_LIMIT, LOGITS_ERROR, MODELS, Run, check, finish, kl, offline, relative_error

offline()

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def load(path, storage=torch.float32, compute=torch.float32, **options):
    """With weights rounded to `storage`; eager attention is the formula as written."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=compute, attn_implementation="eager", **options).eval()
    if hasattr(model, "set_experts_implementation") and getattr(model.config, "num_local_experts", 0):
        model.set_experts_implementation("eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(storage))
    return model


@torch.no_grad()
def theirs(model, segments):
    return torch.cat([model(torch.tensor([ids])).logits[0].float() for ids in segments])


def experts_of(model):
    return getattr(model.config, "num_local_experts", 0) or getattr(model.config, "num_experts", 0)


def scaled(adapter, factor, directory):
    """The same adapter with another alpha."""
    shutil.copytree(adapter, directory)
    config = pathlib.Path(directory) / "adapter_config.json"
    fields = json.loads(config.read_text())
    fields["lora_alpha"] *= factor
    config.write_text(json.dumps(fields))
    return pathlib.Path(directory)


def families(run):
    for directory in sorted(MODELS.iterdir()):
        name, golden = directory.name, load_file(directory / "golden.safetensors")
        starts = golden["starts"].tolist()
        segments = [golden["tokens"][a:b].tolist() for a, b in zip(starts, starts[1:])]
        reference = theirs(load(directory), segments)
        check(f"{name}: logits, fp32", relative_error(reference, run.ours(directory, segments, storage="f32", compute="f32")),
              LOGITS_ERROR)
        rounded = load(directory, torch.bfloat16)
        reference = theirs(rounded, segments)
        check(f"{name}: KL, bf16", kl(reference, run.ours(directory, segments)).mean().item(), KL_LIMIT)
        adapted = theirs(peft.PeftModel.from_pretrained(rounded, directory / "adapter"), segments)
        adapter = directory / "adapter"
        check(f"{name}: logits with adapter, weights of bf16, fp32",
              relative_error(adapted, run.ours(directory, segments, adapter, compute="f32")), LOGITS_ERROR)
        with tempfile.TemporaryDirectory() as scratch:
            quarter = scaled(adapter, 0.25, f"{scratch}/quarter")
            moved = theirs(peft.PeftModel.from_pretrained(load(directory, torch.bfloat16), quarter), segments)
            divergence = kl(moved, run.ours(directory, segments, quarter))
            middle = divergence.median() if experts_of(rounded) else divergence.mean()
            check(f"{name}: KL with a quarter of the adapter, bf16", middle.item(), KL_LIMIT)
            subprocess.run([run.build / "export_files", directory, adapter, scratch, "hf"], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            merged = theirs(load(f"{scratch}/hf"), segments)
        check(f"{name}: KL of the merged directory in transformers", kl(adapted, merged).mean().item(), KL_LIMIT)


def text_of(run, tokens=384):
    """A few held-out documents, cut."""
    return [ids[:tokens // 3] for ids in run.heldout()["ids"] if len(ids) > 40][:3]


def base(run):
    segments = text_of(run)
    if run.base.is_dir():
        where = {"path": run.base}
    else:
        where = {"path": run.base.parent, "gguf_file": run.base.name}
    reference = theirs(load(**where), segments)
    check("base: logits, fp32", relative_error(reference, run.ours(run.base, segments, storage="f32", compute="f32")), LOGITS_ERROR)
    reference = theirs(load(**where, storage=torch.bfloat16), segments)
    divergence = kl(reference, run.ours(run.base, segments))
    check("base: KL, bf16", divergence.mean().item(), KL_LIMIT)
    print(f"base: KL, bf16, worst of {len(divergence)} tokens {divergence.max().item():.3g}")


def adapted(run):
    segments = text_of(run)
    bare = load(run.artifact("hf-base"))
    reference = theirs(bare, segments)
    check("hf-base in transformers: logits, fp32", relative_error(reference, run.ours(run.base, segments, compute="f32")), LOGITS_ERROR)
    in_peft = theirs(peft.PeftModel.from_pretrained(bare, run.artifact("peft")), segments)
    moved = kl(in_peft, reference).mean().item()
    check("the adapter changes the base: KL(adapted || base)", moved, "> 1e-2", moved > 1e-2)
    check("PEFT directory in peft: logits, fp32", relative_error(in_peft, run.ours(run.base, segments, run.adapter, compute="f32")),
          LOGITS_ERROR)
    check("PEFT directory in peft: KL, bf16", kl(in_peft, run.ours(run.base, segments, run.adapter)).mean().item(), KL_LIMIT)
    merged = theirs(load(run.artifact("hf")), segments)
    check("merged directory in transformers: logits, fp32",
          relative_error(merged, run.ours(run.artifact("hf"), segments, compute="f32")), LOGITS_ERROR)
    check("merged directory in transformers: KL, bf16", kl(merged, run.ours(run.artifact("hf"), segments)).mean().item(), KL_LIMIT)
    check("merged directory in transformers: KL to base + adapter", kl(in_peft, merged).mean().item(), KL_LIMIT)


def main():
    run = Run()
    print(f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}")
    for part in (families, base, adapted):
        if run.part in ("", part.__name__):
            part(run)
    finish()


if __name__ == "__main__":
    main()
