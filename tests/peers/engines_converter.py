"""Our GGUF files against those of llama.cpp's own converters, key by key and byte by byte.

    <engines>/hf/bin/python tests/peers/engines_converter.py --build BUILD --llama-cpp SOURCE [--bin LLAMA_CPP_BIN] [--merged HF_DIRECTORY GGUF_BF16]

For a tiny random model of every family (tests/golden/export/make.py makes them): base and adapter through our exporter and through
convert_hf_to_gguf.py on what PEFT merged, convert_lora_to_gguf.py on the adapter; with --bin, the quantized kinds through
llama-quantize on the converter's f32 file. With --merged, the same for what a real run wrote:
the converter makes a GGUF file of the Hugging Face directory, whose tokenizer it must recognise by its own hash.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/golden/export"), str(ROOT / "tests/engines")]
import make  # noqa: E402
from common import check, finish  # noqa: E402

QUANTIZED = ["q4_0", "q4_1", "q5_0", "q5_1", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k"]
NAMES_MODEL = {"general.name", "general.basename", "general.version", "general.finetune", "general.size_label"}
# Written by the converter for every first-generation Gemma, and right for CodeGemma alone.
CODE_GEMMA = {f"tokenizer.ggml.{kind}_token_id" for kind in ("prefix", "suffix", "middle", "fsep", "eot")}
# Written by us and not by the converter, which drops what llama.cpp has as its default.
OURS_ONLY = {"gemma.rope.freq_base", "gemma2.rope.freq_base"}


def pairs(reader):
    return {name: (tuple(t.name for t in field.types), field.contents()) for name, field in reader.fields.items()
            if not name.startswith("GGUF.")}


def compare(ours, theirs, skip=NAMES_MODEL):
    import gguf
    ours, theirs = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    problems, mine, reference = [], pairs(ours), pairs(theirs)
    for key in sorted((mine.keys() | reference.keys()) - skip - OURS_ONLY):
        if mine.get(key) != reference.get(key):
            problems.append(f"{key}: ours {str(mine.get(key))[:120]}, the converter's {str(reference.get(key))[:120]}")
    mine, reference = {t.name: t for t in ours.tensors}, {t.name: t for t in theirs.tensors}
    for name in sorted(mine.keys() | reference.keys()):
        if name not in mine or name not in reference:
            problems.append(f"tensor {name} is only in {'ours' if name in mine else 'theirs'}")
        elif mine[name].tensor_type != reference[name].tensor_type or list(mine[name].shape) != list(reference[name].shape):
            problems.append(f"tensor {name}: ours {mine[name].tensor_type.name} {list(mine[name].shape)}, theirs "
                            f"{reference[name].tensor_type.name} {list(reference[name].shape)}")
        elif mine[name].data.tobytes() != reference[name].data.tobytes():
            differing = (mine[name].data != reference[name].data).sum()
            problems.append(f"tensor {name}: {differing} of {mine[name].data.size} elements differ")
    return problems


def report(what, problems):
    for problem in problems[:10]:
        print("   ", problem)
    check(f"{what}: keys and tensors that differ from the converter's", len(problems), 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--llama-cpp", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, help="where llama-quantize is")
    parser.add_argument("--merged", type=pathlib.Path, nargs=2, metavar=("HF_DIRECTORY", "GGUF_BF16"))
    parser.add_argument("--families", nargs="*", default=[*make.FAMILIES, *make.MORE_FAMILIES])
    options = parser.parse_args()
    sys.path.insert(0, str(options.llama_cpp / "gguf-py"))  # the converter's own, ahead of an installed gguf
    import gguf
    with tempfile.TemporaryDirectory() as scratch:
        make.HERE = pathlib.Path(scratch)
        for family in options.families:
            make.make(family, options.llama_cpp)
            root, out = make.HERE / family, make.HERE / f"{family}-ours"
            quantized = ["f32", *QUANTIZED] if options.bin else []
            if options.bin:
                make.quantize(family, options.llama_cpp, options.bin, quantized, root)
            kinds = ["f16", "q8_0", "lora", *quantized]
            subprocess.run([options.build / "export_files", root / "base", root / "adapter", out, *(f"gguf-{kind}" for kind in kinds)],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for kind in kinds:
                # The converter copies alpha of rsLoRA, although llama.cpp scales by alpha / r.
                skip = NAMES_MODEL | ({"adapter.lora.alpha"} if {**make.FAMILIES, **make.MORE_FAMILIES}[family][2] else set())
                if family == "gemma":
                    skip = skip | CODE_GEMMA
                if kind == "lora":
                    skip = skip | {"general.base_model.count", "general.base_model.0.name"}
                report(f"{family} {kind}", compare(out / f"gguf-{kind}.gguf", root / f"{kind}.gguf", skip))
        if options.merged:
            directory, written = options.merged
            theirs = pathlib.Path(scratch) / "theirs.gguf"
            subprocess.run([sys.executable, options.llama_cpp / "convert_hf_to_gguf.py", directory, "--outtype", "bf16",
                            "--outfile", theirs], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # A GGUF base's own keys are carried over, and may be more or fewer than this version of the converter writes.
            mine = pairs(gguf.GGUFReader(written))
            problems = [f"{key}: ours {str(mine[key])[:100]}, the converter's {str(value)[:100]}"
                        for key, value in pairs(gguf.GGUFReader(theirs)).items()
                        if key not in NAMES_MODEL and mine.get(key, value) != value]
            report("merged model of the run, bf16", problems + [p for p in compare(written, theirs) if p.startswith("tensor")])
    finish()


if __name__ == "__main__":
    main()
