"""The same adapter trained by PEFT + transformers: same tokens in the same rows, rank, alpha, targets, schedule and number of steps.

    <hf venv>/bin/python tests/peers/peft_training.py --graft build/test/graft --config configs/quickstart.yaml

Needs a finished `graft run` of that config. The packed rows come from `graft inspect CORPUS --batches`, the learning rate of each step
from our loss log, the held-out documents from the shards through h5py; model, adapter, gradients and AdamW are theirs. Prints both
held-out bits per byte; exits 1 when ours is more than 1 % above theirs.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

import h5py
import torch
import transformers
from peft import LoraConfig, get_peft_model

parser = argparse.ArgumentParser()
parser.add_argument("--graft", required=True)
parser.add_argument("--config", required=True)
parser.add_argument("--steps", type=int, default=0, help="stop early, to try the script")
args = parser.parse_args()


def graft_json(*words):
    return json.loads(subprocess.run([args.graft, *words, "--json"], check=True, stdout=subprocess.PIPE).stdout)


config = graft_json("inspect", "-c", args.config)["config"]
base, run_dir, corpus = (pathlib.Path(p) for p in (config["base"], config["run_dir"], config["corpus"]["dir"]))
train, lora = config["train"], config["lora"]
log = [record for record in map(json.loads, (run_dir / "loss.jsonl").read_text().splitlines()) if "loss" in record]  # not the scores
steps = args.steps or len(log)

torch.manual_seed(train["seed"])
where = {"gguf_file": base.name, "pretrained_model_name_or_path": str(base.parent)} if base.suffix == ".gguf" else {
    "pretrained_model_name_or_path": str(base)}
# The base as graft trains it: rounded to bf16, computed in what the run computed in; PEFT keeps the adapter in fp32.
compute = json.loads((run_dir / "run.json").read_text())["identity"]["compute_dtype"]
model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="sdpa")
for parameter in model.parameters():  # not the buffers: rotations stay in fp32
    parameter.data = parameter.data.bfloat16()
    if compute == "f32":
        parameter.data = parameter.data.float()
tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
targets = "all-linear" if lora["target_modules"] == ["all-linear"] else lora["target_modules"]
model = get_peft_model(model, LoraConfig(r=lora["rank"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"],
                                         use_rslora=lora["rslora"], target_modules=targets))
parameters = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(parameters, lr=1, betas=(train["beta1"], train["beta2"]), eps=train["epsilon"],
                              weight_decay=train["weight_decay"])


def mask_of(starts):
    """(1, 1, T, T) additive: causal within a segment, nothing across."""
    length = starts[-1]
    segment = torch.zeros(length, dtype=torch.long)
    for s in starts[1:-1]:
        segment[s:] += 1
    allowed = (segment[:, None] == segment[None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    return torch.zeros(1, 1, length, length).masked_fill(~allowed, torch.finfo(torch.bfloat16).min).to(model.dtype)


def nll(tokens, labels, positions, starts):
    out = model(input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions]), attention_mask=mask_of(starts),
                use_cache=False)
    return torch.nn.functional.cross_entropy(out.logits[0].float(), torch.tensor(labels), ignore_index=-100, reduction="sum")


def heldout():
    model.eval()
    total, bytes_, count, limit = 0.0, 0, 0, config["eval"]["max_tokens"]
    records = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    with torch.no_grad():
        for record in records:
            if record["split"] != "heldout":
                continue
            with h5py.File(corpus / record["file"]) as shard:
                offsets, sizes = shard["documents/offset"][:], shard["documents/bytes"][:]
                for d in range(len(sizes)):
                    ids = shard["tokens"][offsets[d]:offsets[d + 1]].astype("int64").tolist()
                    window = config["eval"]["length"]
                    for at in range(0, len(ids) - 1, window):  # the last label of a window is the next one's first token
                        piece, labels = ids[at:at + window], ids[at + 1:at + window + 1]
                        count += len(labels)
                        labels += [-100] * (len(piece) - len(labels))
                        total += nll(piece, labels, list(range(len(piece))), [0, len(piece)]).item()
                    first = tokenizer.decode(ids[:1], skip_special_tokens=True)  # nothing predicts it
                    bytes_ += int(sizes[d]) - len(first.encode())
                    if limit and count >= limit:
                        return total / math.log(2) / bytes_, count
    return total / math.log(2) / bytes_, count


batches = subprocess.Popen([args.graft, "inspect", str(corpus), "--batches", str(steps * train["rows"]), "--length", str(train["length"]),
                            "--seed", str(train["seed"])], stdout=subprocess.PIPE, text=True)
seen, begin = 0, time.time()
for step in range(steps):
    model.train()
    rows = [json.loads(batches.stdout.readline()) for _ in range(train["rows"])]
    trained = sum(sum(label != -100 for label in row["labels"]) for row in rows)
    loss = 0.0
    for row in rows:
        part = nll(row["tokens"], row["labels"], row["positions"], row["starts"]) / trained
        part.backward()
        loss += part.item()
        seen += len(row["tokens"])
    if train["clip"]:
        torch.nn.utils.clip_grad_norm_(parameters, train["clip"])
    optimizer.param_groups[0]["lr"] = log[step]["learning_rate"]
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step + 1}/{steps} loss {loss:.4f} ours {float(log[step]['loss']):.4f} {seen / (time.time() - begin):.0f} tokens/s",
          file=sys.stderr, flush=True)
trained_speed = seen / (time.time() - begin)
theirs, count = heldout()
ours = graft_json("eval", "-c", args.config)
ours_bpb = next(s["bits_per_byte"] for s in ours["scores"] if s["model"] == "adapted" and s["set"] == "heldout")
print(json.dumps({"computed_in": compute, "tokens": seen, "peft_tokens_per_second": trained_speed, "heldout_tokens": count,
                  "peft_bits_per_byte": theirs, "graft_bits_per_byte": ours_bpb, "ratio": ours_bpb / theirs}))
sys.exit(0 if args.steps or ours_bpb <= 1.01 * theirs else 1)
