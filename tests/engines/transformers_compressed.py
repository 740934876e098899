"""Our compressed-tensors directories, read by compressed-tensors itself and by transformers.

decompressor   every quantized linear through compressed-tensors' own decompressor in f32, put into a plain transformers model: its
               logits against ours for the directory (fp32: largest |difference| over largest |logit|)
transformers   the directory as transformers loads it, activations quantized where the scheme says so: perplexity against ours
"""
import json
import math
import os

from common import LOGITS_ERROR, Run, check, finish, offline, relative_error

offline()

import compressed_tensors  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from compressed_tensors.compressors.base import BaseCompressor  # noqa: E402
from compressed_tensors.quantization import QuantizationConfig  # noqa: E402
from compressed_tensors.utils.match import match_name  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

LIMIT = 0.01
PARTS = ("_packed", "_scale", "_shape", "_zero_point", "")


def config_of(directory):
    return QuantizationConfig.model_validate(json.loads((directory / "config.json").read_text())["quantization_config"])


def scheme_of(config, module):
    """As compressed-tensors' match_targets: a group that names the module before the one of all linears."""
    groups = config.config_groups.values()
    named = [group for group in groups if any(match_name(module, target) for target in group.targets)]
    return (named or [group for group in groups if "Linear" in group.targets])[0]


def decompressed(directory):
    """Tensors of the plain model in f32, and how many linears were quantized."""
    tensors = load_file(directory / "model.safetensors")
    config = config_of(directory)
    assert config.ignore == ["lm_head"]
    plain, quantized = {}, 0
    for name in [name for name in tensors if name.endswith("weight_scale")]:
        module = name.removesuffix("weight_scale")
        scheme = scheme_of(config, module.removesuffix("."))
        compressor = BaseCompressor.get_value_from_registry(scheme.format)
        state = {f"weight{part}": tensors.pop(f"{module}weight{part}") for part in PARTS if f"{module}weight{part}" in tensors}
        state["weight_scale"] = state["weight_scale"].float()
        tensors.pop(f"{module}input_scale", None)  # of the inputs, which are left alone here
        plain[f"{module}weight"] = compressor.decompress(state, scheme)["weight"].float()
        quantized += 1
    return {**{name: value.float() for name, value in tensors.items()}, **plain}, quantized


@torch.no_grad()
def logits_of(model, segments):
    return torch.cat([model(torch.tensor([ids])).logits[0].float() for ids in segments])


def perplexity(logits, segments):
    rows = torch.log_softmax(logits.double(), -1).split([len(ids) for ids in segments])
    nll = [-row[:-1].gather(1, torch.tensor(ids[1:])[:, None]) for row, ids in zip(rows, segments)]
    return math.exp(torch.cat(nll).mean().item())


def main():
    run = Run()
    print(f"compressed-tensors {compressed_tensors.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    # As in vllm_serves.py: thousands of tokens where inputs are rounded.
    segments = [ids[at:at + 256] for ids in run.heldout()["ids"] for at in range(0, len(ids) - 40, 256)][:20]
    base = perplexity(run.ours(run.base, segments, compute="f32"), segments)
    adapted = perplexity(run.ours(run.base, segments, run.adapter, compute="f32"), segments)
    print(f"perplexity of base {base:.4f} and adapted {adapted:.4f} in graft, {sum(map(len, segments))} tokens")
    for name in os.environ["GRAFT_COMPRESSED"].split():
        directory = run.artifact(name)
        ours = run.ours(directory, segments, storage="f32", compute="f32")
        weights = run.ours(directory, segments, storage="f32", compute="f32", plain_inputs=True)
        config = transformers.AutoConfig.from_pretrained(directory)
        del config.quantization_config
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
        tensors, quantized = decompressed(directory)
        missing = model.load_state_dict(tensors, strict=False)
        assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
        model.tie_weights()
        check(f"{name}: logits of {quantized} linears by compressed-tensors' decompressor, fp32",
              relative_error(logits_of(model, segments), weights), LOGITS_ERROR)
        if not config_of(directory).config_groups["group_0"].weights.symmetric:
            # transformers allocates their zero points as they are before compressed-tensors packs them, and refuses what that writes.
            print(f"{name}: not loaded by transformers {transformers.__version__}, which takes no packed zero points")
            continue
        loaded = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
        theirs, mine = perplexity(logits_of(loaded, segments), segments), perplexity(ours, segments)
        print(f"{name}: perplexity {theirs:.4f} in transformers, {mine:.4f} in graft")
        check(f"{name} in transformers: perplexity against graft", abs(theirs / mine - 1), LIMIT)
    finish()


if __name__ == "__main__":
    main()
