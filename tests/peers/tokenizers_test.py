#!/usr/bin/env python3
"""Ids of every tokenizer family against PyPI tokenizers and sentencepiece: random Unicode strings, and real text where there is some.

    tokenizers_test.py --build DIR [--strings N] [--gguf FILE] [--text FILE ...] [--documents PATH]

--documents is a path as in corpus.sources: the text is what graft itself extracts. Prints one line per family, "N strings, D differences",
and the time both sides took on the real text, one thread each (CPU seconds).
Special-token matching is off in content: encode_special_tokens for tokenizers, plain encode for sentencepiece.
"""
import argparse
import gc
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
import gguf  # noqa: E402
import sentencepiece  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from random_unicode import random_strings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "tokenizers"


def pack(strings):
    return b"".join(struct.pack("<I", len(data)) + data for data in (string.encode() for string in strings))


def our_ids(tool, path, strings):
    answer = subprocess.run([tool, path], input=pack(strings), stdout=subprocess.PIPE, check=True).stdout
    at, out = 0, []
    for _ in strings:
        (count,) = struct.unpack_from("<I", answer, at)
        out.append(list(struct.unpack_from(f"<{count}i", answer, at + 4)))
        at += 4 + 4 * count
    return out


def extracted(tool, path):
    """The documents that graft reads at the path, as text."""
    answer = subprocess.run([tool, "--extract", path], stdout=subprocess.PIPE, check=True).stdout
    at, out = 0, []
    while at < len(answer):
        (size,) = struct.unpack_from("<I", answer, at)
        out.append(answer[at + 4:at + 4 + size].decode())
        at += 4 + size
    return out


def reference_json(path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def reference_gguf(path):
    """SmolLM's tokenizer, put together here from the metadata."""
    fields = gguf.GGUFReader(path).fields
    tokens, types, merges = (fields["tokenizer.ggml." + key].contents() for key in ("tokens", "token_type", "merges"))
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for i, token in enumerate(tokens) if types[i] == 3])
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def spm_model_of(path):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return processor.encode


def count_differences(strings, ours, theirs):
    different = [i for i, string in enumerate(strings) if ours[i] != theirs(string)]
    for i in different[:3]:
        print(f"  {ascii(strings[i])[:300]}\n    ours      {ours[i][:40]}\n    reference {theirs(strings[i])[:40]}")
    return len(different)


def compare(name, path, theirs, args):
    strings = list(random_strings(args.strings, seed=args.seed))
    failed = count_differences(strings, our_ids(args.tool, path, strings), theirs)
    print(f"{name}: {len(strings)} strings, {failed} differences")
    if args.texts:
        wrong = count_differences(args.texts, our_ids(args.tool, path, args.texts), theirs)
        print(f"{name}: {len(args.texts)} documents, {wrong} differences")
        failed += wrong
    return failed


def compare_speed(path, theirs, texts, tool):
    """Best of three on both sides: the machine may be busy."""
    size = sum(len(text.encode()) for text in texts)
    gc.disable()
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        for text in texts:
            theirs(text)
        best = min(best, time.process_time() - begin)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pack(texts))
        file.flush()
        out = subprocess.run([tool, path, "--time", file.name], stdout=subprocess.PIPE, check=True, text=True).stdout
    ours = min(float(line.split()[4]) for line in out.splitlines())
    print(f"one thread, {size / 1e6:.1f} MB: reference {size / best / 1e6:.1f} MB/s, ours {size / ours / 1e6:.1f} MB/s, {best / ours:.1f}x")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/test")
    parser.add_argument("--tool")
    parser.add_argument("--strings", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gguf", default=os.environ.get("GRAFT_SMOLLM2_GGUF"))
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--documents")
    parser.add_argument("--family")
    args = parser.parse_args()
    args.tool = args.tool or str(Path(args.build) / "tokenize_ids")
    args.texts = [Path(file).read_text(errors="replace") for file in args.text]
    if args.documents:
        args.texts += extracted(args.tool, args.documents)
    failed = 0
    for directory in sorted(GOLDEN.iterdir()):
        if args.family not in (None, directory.name):
            continue
        if (directory / "tokenizer.json").exists():
            failed += compare(directory.name, directory, reference_json(directory / "tokenizer.json"), args)
        else:
            failed += compare(directory.name, directory, spm_model_of(directory / "tokenizer.model"), args)
    if args.gguf and args.family in (None, "gguf"):
        theirs = reference_gguf(args.gguf)
        failed += compare("SmolLM2 (GGUF)", args.gguf, theirs, args)
        if args.texts:
            compare_speed(args.gguf, theirs, args.texts, args.tool)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
