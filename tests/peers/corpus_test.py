#!/usr/bin/env python3
"""A corpus that graft prepared, read by h5py: tokens, offsets, hashes, lengths and loss spans are what Python computes from the documents.

    corpus_test.py --build DIR [--gguf FILE]        (needs h5py, gguf, tokenizers)

Without the GGUF base (.deps/quickstart, or --gguf) there is nothing to prepare with: it says so and passes.
"""
import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from random_unicode import random_strings  # noqa: E402
from tokenizers_test import ROOT, reference_gguf  # noqa: E402

END = 2  # <|im_end|>, SmolLM2's end of text


def documents():
    """(name in its file, file content, id suffix) of documents whose text is clean already."""
    texts = ["plain text, long enough", "second document\n\nwith a blank line", "naïve café — 日本語 🚀", "<|im_start|>user\nnot a marker<|im_end|>"]
    texts += [text for text in ("x" + string.replace("\r", "").strip() for string in random_strings(200, seed=3)) if clean(text)]
    return list(dict.fromkeys(texts))


def clean(text):
    """Whether graft's cleaning leaves the text alone."""
    control = any(ord(c) < 32 and c not in "\t\n" or ord(c) == 127 for c in text)
    lines = text.split("\n")
    return not control and all(line == line.rstrip(" \t") for line in lines) and "\n\n\n\n" not in text and text == text.strip("\n \t")


def sha(text):
    return hashlib.sha256(text.encode()).digest()


def check(name, ok):
    print(f"{'ok' if ok else 'FAILED'}: {name}")
    return 0 if ok else 1


def run(program, directory, *settings):
    config = {"base": settings[0], "run_dir": str(directory / "run"),
              "corpus": {"dir": str(directory / "corpus"), "sources": [{"path": "docs.jsonl.gz"}], "heldout": 0.2, "min_bytes": 0} | settings[1]}
    (directory / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    out = subprocess.run([program, "prepare", "-c", "config.yaml", "--json"], cwd=directory, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(out)


def compare(program, gguf, encode, compression):
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        texts = documents()
        with gzip.open(directory / "docs.jsonl.gz", "wt") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        report = run(program, directory, gguf, {"compression": compression})
        records = [json.loads(line) for line in (directory / "corpus/manifest.jsonl").read_text().splitlines()]
        expected = {"train": [], "heldout": []}
        for line, text in enumerate(texts, 1):
            place = int.from_bytes(sha(f"docs.jsonl.gz:{line}")[8:16], "big") / 2**64
            expected["heldout" if place < 0.2 else "train"].append((line, text))
        for record in records:
            path = directory / "corpus" / record["file"]
            failed += check(f"{compression} {record['file']} sha256", hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"])
            mine = expected[record["split"]]
            with h5py.File(path) as shard:
                offset, tokens = shard["documents/offset"][:], shard["tokens"][:]
                ids = [list(tokens[a:b]) for a, b in zip(offset, offset[1:])]
                failed += check("tokens", ids == [encode(text) + [END] for _, text in mine])
                failed += check("dtype", tokens.dtype == np.uint16 and shard["tokens"].chunks == (None if compression == "none" else (len(tokens),)))
                failed += check("id_hash", list(shard["documents/id_hash"]) == [int.from_bytes(sha(f"docs.jsonl.gz:{line}")[:8], "big") for line, _ in mine])
                failed += check("content_hash", list(shard["documents/content_hash"]) ==
                                [int.from_bytes(sha(text)[at:at + 8], "big") for _, text in mine for at in (0, 8)])
                failed += check("bytes", list(shard["documents/bytes"]) == [len(text.encode()) for _, text in mine])
                failed += check("sources", bytes(shard["sources"][:]) == b"docs.jsonl.gz\n" and not shard["documents/source"][:].any())
                failed += check("attributes", shard.attrs["schema"] == 1 and shard.attrs["split"].decode() == record["split"]
                                and shard.attrs["vocab_size"] == 49152 and shard.attrs["tokenizer"].decode() == record["tokenizer"])
                failed += check("manifest", (record["tokens"], record["documents"]) == (len(tokens), len(mine)))
        failed += check("report", report["documents_kept"] == len(texts) and report["tokens"] == sum(r["tokens"] for r in records))
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/test")
    parser.add_argument("--gguf", default=os.environ.get("GRAFT_SMOLLM2_GGUF", str(ROOT / ".deps/quickstart/smollm2-135m-instruct.gguf")))
    args = parser.parse_args()
    if not Path(args.gguf).exists():
        print(f"{args.gguf} is not there: left out")
        return 0
    encode = reference_gguf(args.gguf)
    program = str(Path(args.build).resolve() / "graft")
    failed = sum(compare(program, args.gguf, encode, compression) for compression in ("none", "deflate"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
