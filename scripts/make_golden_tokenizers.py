#!/usr/bin/env python3
"""Makes tests/golden/tokenizers: one small tokenizer per family and the ids that the reference libraries give for fixed strings.

    make_golden_tokenizers.py TEXT_FILE [TEXT_FILE ...]     (needs tokenizers, sentencepiece)

The tokenizers are trained here on the given text and a few sentences in many scripts; their structure (pre-tokenizer, normalizer,
post-processor, added tokens) is that of the published models. golden.json holds, per family, [text, ids] with special-token matching
off in content: tokenizers' encode_special_tokens = True, sentencepiece's plain encode.
"""
import json
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "peers"))
from random_unicode import random_strings  # noqa: E402

OUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "tokenizers"

MANY_SCRIPTS = """
All human beings are born free and equal in dignity and rights. They're endowed with reason; it's theirs, we'll see, I'd say you've won.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Tous les êtres humains naissent libres et égaux en dignité et en droits.
Todos los seres humanos nacen libres e iguales. Tutti gli esseri umani nascono liberi. Wszyscy ludzie rodzą się wolni i równi.
Все люди рождаются свободными и равными в своем достоинстве и правах. Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι.
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人人生而自由,在尊严和权利上一律平等。
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।
يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์ Tất cả mọi người sinh ra đều được tự do và bình đẳng. 😀 🚀 👩‍👩‍👧 €£¥ ½ ² Ⅻ x²+y²=z²
"""

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
TAIL = r""" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
LLAMA3 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|""" + TAIL
QWEN2 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|""" + TAIL
TEKKEN = (r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"""
          r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"""
          r"""\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""")


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


FAMILIES = {
    "gpt2": dict(pre=pre_tokenizers.ByteLevel(add_prefix_space=False), special=["<|endoftext|>"]),
    "smollm": dict(pre=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                   special=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"],
                   config=dict(bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>")),
    "llama3": dict(pre=split_then_bytes(LLAMA3), ignore_merges=True,
                   special=["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
                   bos="<|begin_of_text|>", config=dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")),
    "qwen2": dict(pre=split_then_bytes(QWEN2), nfc=True, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                  plain=["<tool_call>", "</tool_call>", "<think>", "</think>"],
                  config=dict(eos_token="<|im_end|>", pad_token="<|endoftext|>")),
    "tekken": dict(pre=split_then_bytes(TEKKEN), ignore_merges=True,
                   special=["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"], bos="<s>",
                   config=dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")),
}
# Whole words that no merge reaches: what ignore_merges is for.
UNMERGED = [" PostgreSQL's", "unmergeable", " сервер", "100"]


def train_bpe(name, lines, pre, special, plain=(), nfc=False, ignore_merges=False, bos=None, config=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1700, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in plain])
    if bos:
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    directory = OUT / name
    directory.mkdir(parents=True, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    if ignore_merges:
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        for word in UNMERGED:
            data["model"]["vocab"].setdefault(spell.pre_tokenize_str(word)[0][0], len(data["model"]["vocab"]))
    (directory / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
    if config:
        (directory / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=1))
    reference = Tokenizer.from_file(str(directory / "tokenizer.json"))
    reference.encode_special_tokens = True
    return lambda text: reference.encode(text, add_special_tokens=False).ids


SPM = {
    # Llama 2: identity normalization, a space put in front, bytes for what is missing.
    "llama2": dict(user_defined_symbols=[], control_symbols=[], normalization_rule_name="identity", add_dummy_prefix=True,
                   remove_extra_whitespaces=False),
    # Mistral: instruction markers are control pieces.
    "mistral": dict(user_defined_symbols=[], control_symbols=["[INST]", "[/INST]"], normalization_rule_name="identity",
                    add_dummy_prefix=True, remove_extra_whitespaces=False),
    # Gemma: no space in front, runs of spaces and newlines as user-defined pieces, turn markers as control pieces.
    "gemma": dict(user_defined_symbols=["▁▁", "▁▁▁▁", "\n", "\n\n", "<b>"], control_symbols=["<start_of_turn>", "<end_of_turn>"],
                  normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False, pad_id=0, eos_id=1,
                  bos_id=2, unk_id=3, unk_piece="<unk>"),
    # What other models use: spaces trimmed, characters folded, and unknown characters without bytes.
    "folding": dict(remove_extra_whitespaces=True),
    "bytes_missing": dict(byte_fallback=False, normalization_rule_name="identity", remove_extra_whitespaces=False),
}


def train_spm(name, lines, **settings):
    directory = OUT / name
    directory.mkdir(parents=True, exist_ok=True)
    import io
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, num_threads=1, minloglevel=2, self_test_sample_size=0,
        **(dict(model_type="bpe", vocab_size=1600, byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True,
                character_coverage=0.995, max_sentence_length=100000) | settings))
    (directory / "tokenizer.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return processor.encode


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        # full-width digits and Latin letters to plain ones, the fi ligature taken apart: code points, in hexadecimal
        rules.writelines(f"{0xFF01 + i:X}\t{0x21 + i:X}\n" for i in range(94))
        rules.write("FB01\t66 69\n3000\t20\nA\t20\n9\t20\n")
        rules.flush()
        SPM["folding"]["normalization_rule_tsv"] = rules.name
        make()


def make():
    text = "\n".join(Path(file).read_text(errors="replace") for file in sys.argv[1:])
    lines = [line for line in text.splitlines() if line.strip()]
    random.Random(1).shuffle(lines)
    lines = lines[:20000] + MANY_SCRIPTS.strip().splitlines() * 40
    strings = MANY_SCRIPTS.strip().splitlines() + ["", " ", "a" * 500, "_" * 300, " " * 100 + "x"] + list(random_strings(90, seed=7))
    encoders = {name: train_bpe(name, lines, **settings) for name, settings in FAMILIES.items()}
    encoders |= {name: train_spm(name, lines, **settings) for name, settings in SPM.items()}
    for name, encode in encoders.items():
        golden = [[string, encode(string)] for string in strings]
        (OUT / name / "golden.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")))
        print(name, len(golden), "strings", sum(len(ids) for _, ids in golden), "ids")


if __name__ == "__main__":
    main()
