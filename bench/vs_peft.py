"""Training speed and memory of graft against PEFT + transformers, in turns on one machine, on the same tokens.

    <hf venv>/bin/python bench/vs_peft.py --graft build/release/graft --config configs/quickstart.yaml [--pairs 5] [--report FILE]

For B = 1 and 4 rows of train.length tokens. Peers: PEFT eager as installed, in bf16 and (for processors without bf16) in fp32; and
torch.compile with glibc's allocator told to keep freed memory, in bf16 and under autocast from fp32. transformers would multiply with
a GGUF file's packed weights: give a dense Hugging Face directory of the same model with --base (`graft export -c CONFIG --format
hf-base`). Every run is a process of its own; ours and theirs alternate. Each warms up and prints the median of its timed steps (batch
as PEFT wants it: B rows with positions and a mask of the documents). Needs the corpus.
"""

import argparse
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

TUNED = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456"}
PEERS = {  # dtype of the weights, autocast, compiled, environment
    "PEFT eager bf16": ("bf16", False, False, {}),
    "PEFT eager fp32": ("fp32", False, False, {}),
    "PEFT compiled bf16, tuned malloc": ("bf16", False, True, TUNED),
    "PEFT compiled autocast, tuned malloc": ("fp32", True, True, TUNED),
}


def rows_of(args, config, count):
    train = config["train"]
    out = subprocess.run([args.graft, "inspect", config["corpus"]["dir"], "--batches", str(count), "--length", str(train["length"]),
                          "--seed", str(train["seed"])], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def train_peft(args, config):
    """One peer, in this process: prints {"tokens_per_second", "peak"}."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    dtype, autocast, compiled, _ = PEERS[args.peer]
    rows, lora = rows_of(args, config, args.rows), config["lora"]
    model = transformers.AutoModelForCausalLM.from_pretrained(args.base or config["base"], attn_implementation="sdpa",
                                                              dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)
    targets = "all-linear" if lora["target_modules"] == ["all-linear"] else lora["target_modules"]
    model = get_peft_model(model, LoraConfig(r=lora["rank"], lora_alpha=lora["alpha"], target_modules=targets))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    length = max(len(row["tokens"]) for row in rows)
    ids, labels = torch.zeros(len(rows), length, dtype=torch.long), torch.full((len(rows), length), -100)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    allowed = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
    for i, row in enumerate(rows):
        n = len(row["tokens"])
        ids[i, :n], labels[i, :n], positions[i, :n] = (torch.tensor(row[key]) for key in ("tokens", "labels", "positions"))
        for first, last in zip(row["starts"], row["starts"][1:]):
            allowed[i, first:last, first:last] = torch.ones(last - first, last - first, dtype=torch.bool).tril()
    attention = torch.zeros(len(rows), 1, length, length).masked_fill(~allowed[:, None], torch.finfo(torch.bfloat16).min)
    attention = attention.to(torch.bfloat16)

    def loss_of(ids, positions, attention, labels):
        logits = model(input_ids=ids, position_ids=positions, attention_mask=attention, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)

    forward = torch.compile(loss_of) if compiled else loss_of
    seconds = []
    for step in range(2 + args.steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = forward(ids, positions, attention if autocast or dtype == "bf16" else attention.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    tokens = sum(len(row["tokens"]) for row in rows)
    print(json.dumps({"tokens_per_second": tokens / statistics.median(seconds[2:]), "steps": seconds, "loss": loss.item(),
                      "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))


def run_graft(args, rows):
    command = [args.graft, "bench", "step", "-c", args.config, "--json", "--repeat", str(args.steps)]
    for setting in [f"train.rows={rows}", "run_dir=build/bench/none", *args.set]:
        command += ["--set", setting]
    out = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {"tokens_per_second": out["tokens_per_second"], "peak": out["memory"]["peak"], "share": out["share_of_floor"],
            "processor": out["processor"], "threads": out["threads"], "compute": out["compute"]}


def run_peer(args, name, rows):
    command = [sys.executable, __file__, "--graft", args.graft, "--config", args.config, "--peer", name, "--rows", str(rows), "--steps",
               str(args.steps), *(["--base", args.base] if args.base else [])]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | PEERS[name][3]).stdout)


def compare(args):
    lines, raw = [], []
    for rows in args.batch:
        for name in args.peers or PEERS:
            pairs = []
            for _ in range(args.pairs):
                ours, theirs = run_graft(args, rows), run_peer(args, name, rows)
                pairs.append((ours, theirs))
                raw.append(json.dumps({"rows": rows, "peer": name, "ours": ours, "theirs": theirs}))
                print(raw[-1], file=sys.stderr, flush=True)
            middle = [statistics.median(pair[i]["tokens_per_second"] for pair in pairs) for i in (0, 1)]
            ratio = statistics.median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs)
            memory = max(a["peak"] for a, _ in pairs) / max(b["peak"] for _, b in pairs)
            shares = [a["share"] for a, _ in pairs if a["share"] is not None]  # there is no floor of a GPU
            share = f"{100 * statistics.median(shares):.0f} %" if shares else "-"
            lines.append(f"| {rows} | {name} | {middle[0]:.0f} | {middle[1]:.0f} | {ratio:.2f}x | {memory:.2f}x | {share} |")
    head = pairs[0][0]
    text = "\n".join([f"# Training speed against PEFT, {datetime.date.today()}", "",
                      f"{head['processor']}; {head['threads']} threads; ours in {head['compute']}; {args.pairs} interleaved pairs, "
                      f"{args.steps} timed steps each.", "", "    python " + " ".join(sys.argv), "",
                      "| rows | peer | ours, tokens/s | theirs | speed | peak memory | ours, share of floor |", "|---|---|---|---|---|---|---|",
                      *lines, "", "Raw lines:", "", *("    " + line for line in raw), ""])
    print(text)
    if args.report:
        pathlib.Path(args.report).write_text(text)


parser = argparse.ArgumentParser()
parser.add_argument("--graft", required=True)
parser.add_argument("--config", required=True)
parser.add_argument("--base", help="Hugging Face directory of the base, for PEFT")
parser.add_argument("--pairs", type=int, default=5)
parser.add_argument("--steps", type=int, default=3, help="timed steps of each run")
parser.add_argument("--batch", type=int, nargs="*", default=[1, 4], help="rows")
parser.add_argument("--peers", nargs="*", choices=list(PEERS))
parser.add_argument("--set", action="append", default=[], help="a setting of ours: train.base_precision=int8")
parser.add_argument("--report")
parser.add_argument("--peer", choices=list(PEERS), help=argparse.SUPPRESS)
parser.add_argument("--rows", type=int, default=1, help=argparse.SUPPRESS)
arguments = parser.parse_args()
if arguments.peer:
    train_peft(arguments, json.loads(subprocess.run([arguments.graft, "inspect", "-c", arguments.config, "--json"], check=True,
                                                    stdout=subprocess.PIPE).stdout)["config"])
else:
    compare(arguments)
