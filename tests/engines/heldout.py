"""Writes WORK/heldout.json: the first held-out documents of a corpus, as ids and as text. Runs in the hf environment.

    heldout.py CORPUS TOKENIZER_DIRECTORY WORK [TOKENS]
"""
import json
import pathlib
import sys

import h5py
from transformers import AutoTokenizer

corpus, tokenizer, work = (pathlib.Path(argument) for argument in sys.argv[1:4])
limit = int(sys.argv[4]) if len(sys.argv) > 4 else 8192
decoder = AutoTokenizer.from_pretrained(tokenizer)
documents = []
for line in (corpus / "manifest.jsonl").read_text().splitlines():
    record = json.loads(line)
    if record["split"] != "heldout":
        continue
    with h5py.File(corpus / record["file"]) as shard:
        offsets = shard["documents/offset"][:]
        for begin, end in zip(offsets, offsets[1:]):
            if sum(map(len, documents)) < limit:
                documents.append(shard["tokens"][begin:end].astype("int64").tolist())
# Ends of text are no part of the text.
text = "\n\n".join(decoder.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in documents)
(work / "heldout.json").write_text(json.dumps({"ids": documents, "text": text}))
