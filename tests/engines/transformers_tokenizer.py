"""Tokenizer, chat template and configs that we write, as transformers reads them.

run        the merged directory of a run: ids of held-out text and random Unicode against ours; chat template against the base's own;
           ids of a conversation against `graft prepare`; generation settings
rebuilt    directories rebuilt from llama.cpp's GGUF files of tests/golden/export: logits; ids against the original tokenizer
copied     directories of a Hugging Face base: every file beside the weights byte for byte
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unicodedata

from common import EXPORTS, LOGITS_ERROR, ROOT, Run, check, finish, offline, relative_error

offline()

import gguf  # noqa: E402
import h5py  # noqa: E402
import sentencepiece  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

sys.path.insert(0, str(ROOT / "tests/peers"))
from random_unicode import random_strings  # noqa: E402
from transformers_logits import load, theirs  # noqa: E402

MESSAGES = [{"role": "system", "content": "You answer briefly."},
            {"role": "user", "content": "How do I rename a table?\n\nIt is large."},
            {"role": "assistant", "content": "ALTER TABLE a RENAME TO b;"}, {"role": "user", "content": "And a column?<|im_end|>"},
            {"role": "assistant", "content": " RENAME COLUMN"}]


def differences(ours, reference):
    return sum(a != b for a, b in zip(ours, reference, strict=True))


def ids_of(tokenizer, texts):
    return [tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in texts]


def prepared_ids(run, messages):
    """What `graft prepare` makes of one conversation."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "chat.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
        (scratch / "config.yaml").write_text(f"base: {run.base}\ncorpus:\n  dir: {scratch}/corpus\n  heldout: 0\n  sources:\n"
                                             f"    - path: {scratch}/chat.jsonl\n")
        subprocess.run([run.build / "graft", "prepare", "-c", scratch / "config.yaml"], check=True, stdout=subprocess.DEVNULL)
        record = json.loads((scratch / "corpus/manifest.jsonl").read_text())
        with h5py.File(scratch / "corpus" / record["file"]) as shard:
            return shard["tokens"][:].astype("int64").tolist()


def merged(run):
    directory, texts = run.artifact("hf"), [*random_strings(5000, seed=3), *run.heldout()["text"].split("\n\n")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    check(f"merged directory: ids of {len(texts)} texts that differ",
          differences(run.our_ids(run.base, texts), ids_of(tokenizer, texts)), 0)
    template = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    if run.base.is_file():
        source = gguf.GGUFReader(run.base).fields["tokenizer.chat_template"].contents()
        same = template == tokenizer.apply_chat_template(MESSAGES, tokenize=False, chat_template=source)
        check("merged directory: conversation rendered as by the GGUF's template", "same" if same else "differs", "same", same)
    else:
        expected = transformers.AutoTokenizer.from_pretrained(run.base).apply_chat_template(MESSAGES, tokenize=False)
        same = template == expected
        check("merged directory: conversation rendered as by the base", "same" if same else "differs", "same", same)
    if "<|im_start|>" in template:  # ChatML; templates of other families add dates and defaults that graft does not
        plain = [{**message, "content": message["content"].replace("<|im_end|>", "")} for message in MESSAGES]
        rendered = tokenizer(tokenizer.apply_chat_template(plain, tokenize=False), add_special_tokens=False).input_ids
        prepared = prepared_ids(run, plain)
        same = prepared == rendered
        check(f"conversation: {len(prepared)} ids of `graft prepare`, {len(rendered)} of transformers' template",
              "same" if same else "differ", "same", same)
    settings = transformers.GenerationConfig.from_pretrained(directory)
    stop = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    good = tokenizer.eos_token_id in stop
    check("merged directory: generation stops at the tokenizer's end of turn", str(stop), tokenizer.eos_token_id, good)


def rebuilt(run):
    for directory in sorted(path.parent for path in EXPORTS.glob("*/base")):
        base, strings = directory / "base", list(random_strings(2000, seed=5))
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([run.build / "export_files", directory / "f16.gguf", "-", scratch, "hf-base"], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            model, tokenizer = load(f"{scratch}/hf-base"), transformers.AutoTokenizer.from_pretrained(f"{scratch}/hf-base")
            segments = [list(range(3, 60)), list(range(200, 296))]
            check(f"{directory.name}: logits of the directory rebuilt from GGUF, fp32",
                  relative_error(theirs(model, segments), run.ours(directory / "f16.gguf", segments, compute="f32")), LOGITS_ERROR)
            # GGUF's name "qwen2" stands for Qwen's own tokenizer, which normalizes to NFC; the tiny one of the tests does not.
            strings = [unicodedata.normalize("NFC", string) for string in strings]
            if (base / "tokenizer.model").exists():
                # SentencePiece as trained for the tests trims spaces, which GGUF has no key for; transformers puts no space
                # before U+2581.
                strings = [re.sub(" +", " ", string.replace("\u2581", " ")).strip(" ") for string in strings]
                reference = [sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model")).encode(s) for s in strings]
            else:
                original = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
                original.encode_special_tokens = True
                reference = [original.encode(s, add_special_tokens=False).ids for s in strings]
            check(f"{directory.name}: ids of {len(strings)} strings, rebuilt against the original",
                  differences(ids_of(tokenizer, strings), reference), 0)


def copied(run):
    for directory in sorted(path.parent for path in EXPORTS.glob("*/base")):
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([run.build / "export_files", directory / "base", directory / "adapter", scratch, "hf"], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            files = [path for path in (directory / "base").iterdir() if path.suffix != ".safetensors"]
            changed = [path.name for path in files if (pathlib.Path(scratch) / "hf" / path.name).read_bytes() != path.read_bytes()]
            check(f"{directory.name}: {len(files)} files carried over, changed", ", ".join(changed) or "none", "none", not changed)


def main():
    run = Run()
    for part in (merged, rebuilt, copied):
        if run.part in ("", part.__name__):
            part(run)
    finish()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
