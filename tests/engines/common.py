"""What the scripts of tests/engines share: the run under test, our logits, and one line per figure.

The line "what figure limit ok" is the result; scripts/test-engines counts those that end in ok and in FAILED.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS, EXPORTS = ROOT / "tests/golden/models", ROOT / "tests/golden/export"
LOGITS_ERROR, KL_LIMIT = 1e-4, 1e-3  # fp32: largest |difference| over largest |logit|; bf16: nats per token

failures = 0


def check(what, figure, limit, good=None):
    """Prints one result. Numbers must be at most the limit unless `good` says."""
    global failures
    good = figure <= limit if good is None else good
    failures += not good
    shown = f"{figure:.3g}" if isinstance(figure, float) else str(figure)
    print(f"{what:<78} {shown:>10}  limit {limit}  {'ok' if good else 'FAILED'}", flush=True)


def finish():
    sys.exit(1 if failures else 0)


def kl(reference, logits):
    """KL(reference || logits) of each position, nats, in f64; logits may be log probabilities."""
    p, q = (torch.log_softmax(x.double(), -1) for x in (reference, logits))
    return (p.exp() * (p - q)).sum(-1)


def relative_error(reference, logits):
    error = (reference.double() - logits.double()).abs().max() / reference.abs().max()
    return math.inf if error.isnan() else error.item()


class Run:
    """A finished `graft run` of some base, and what was exported from it."""

    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--build", type=pathlib.Path, required=True, help="where model_logits and tokenize_ids are")
        parser.add_argument("--run", type=pathlib.Path, required=True, help="run directory")
        parser.add_argument("--work", type=pathlib.Path, required=True, help="held-out text, and exports that the run has not")
        parser.add_argument("--engine", type=pathlib.Path, help="directory of the engine's programs")
        parser.add_argument("--part", default="", help="run this part alone")
        options = parser.parse_args()
        self.build, self.path, self.work, self.engine, self.part = (
            options.build, options.run, options.work, options.engine, options.part)
        self.adapter = self.path / "adapter"
        self.base = pathlib.Path(json.loads((self.adapter / "adapter_config.json").read_text())["base_model_name_or_path"])
        self.rank = json.loads((self.adapter / "adapter_config.json").read_text())["r"]

    def artifact(self, name):
        for directory in (self.path / "export", self.work / "export"):
            if (directory / name).exists():
                return directory / name
        raise FileNotFoundError(f"{name} is in neither {self.path}/export nor {self.work}/export")

    def heldout(self):
        """{"ids": [[...], ...], "text": "..."}: held-out documents (tests/engines/heldout.py)."""
        return json.loads((self.work / "heldout.json").read_text())

    def tool(self, name, *arguments, **options):
        return subprocess.run([self.build / name, *map(str, arguments)], check=True, stdout=subprocess.PIPE, **options).stdout

    def ours(self, model, segments, adapter=None, storage="bf16", compute="bf16", logprob=False, plain_inputs=False):
        """Our logits (T, V), or log probabilities (T), of each segment run alone."""
        starts = [0]
        for ids in segments:
            starts.append(starts[-1] + len(ids))
        with tempfile.TemporaryDirectory() as scratch:
            tokens = torch.tensor([i for ids in segments for i in ids], dtype=torch.int32)
            save_file({"tokens": tokens, "starts": torch.tensor(starts, dtype=torch.int32)}, f"{scratch}/in")
            self.tool("model_logits", model, f"{scratch}/in", f"{scratch}/out", "--storage", storage, "--compute", compute,
                      *(["--adapter", adapter] if adapter else []), *(["--logprob"] if logprob else []), *(["--plain-inputs"] if plain_inputs else []))
            return load_file(f"{scratch}/out")["logprob" if logprob else "logits"]

    def our_ids(self, tokenizer, texts):
        packed = b"".join(len(t).to_bytes(4, "little") + t for t in (text.encode() for text in texts))
        answer, ids = memoryview(self.tool("tokenize_ids", tokenizer, input=packed)).cast("I"), []
        for _ in texts:
            count = answer[0]
            ids.append(list(answer[1:1 + count]))
            answer = answer[1 + count:]
        return ids


def offline():
    """No engine may reach for the network."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", VLLM_NO_USAGE_STATS="1",
                      VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR", TRANSFORMERS_VERBOSITY="error")
