"""Makes the goldens of tests/export: for each family a tiny random base, a PEFT adapter, and what llama.cpp's own converters make of them.

    <engines>/hf/bin/python tests/golden/export/make.py LLAMA_CPP_SOURCE [FAMILY ...]
    <engines>/hf/bin/python tests/golden/export/make.py LLAMA_CPP_SOURCE --quantized LLAMA_CPP_BIN [FAMILY ...]

LLAMA_CPP_SOURCE holds convert_hf_to_gguf.py and convert_lora_to_gguf.py, LLAMA_CPP_BIN llama-quantize. Writes
<family>/{base,adapter,f16.gguf,q8_0.gguf,lora.gguf} beside this file, or with --quantized what llama-quantize makes of the merged model
in f32, from the base and adapter that are there. The adapters' values are small multiples of powers of two, so that B A is exact in f32 whatever the order of
summation, and the merged tensors can be compared bit by bit. The tokenizers are trained here on a few lines, so the converter's
table of hashes of published tokenizers cannot know them: the name it would have found is passed in.
"""
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import sentencepiece
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
TEXT = ["the quick brown fox jumps over the lazy dog 0123456789", "PostgreSQL's manual: SELECT * FROM t WHERE x > 10;",
        "größe déjà vu ☃ \U0001f680 don't we'll", "a table of tables, and the tables of the table"] * 3
SPLIT = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
CHAT = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
SHAPE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, rms_norm_eps=1e-5, torch_dtype="bfloat16")


def byte_level_tokenizer(directory, pre, specials, vocab, config, template=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "smollm":
        first, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        first = pre_tokenizers.Split(Regex(SPLIT[pre]), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=vocab - len(specials), show_progress=False,
                                                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tokenizer.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    if template:
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single=f"{template} $A", pair=f"{template} $A $B", special_tokens=[(template, tokenizer.token_to_id(template))])])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False))


def spm_tokenizer(directory):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT * 20), model_writer=out, vocab_size=340, model_type="bpe",
                                             byte_fallback=True, normalization_rule_name="identity", minloglevel=2,
                                             user_defined_symbols=["<user>"], control_symbols=["<ctl>"])
    (directory / "tokenizer.model").write_bytes(out.getvalue())
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "add_prefix_space": None,
              "bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "unk_token": "<unk>", "legacy": True,
              "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}, "1": {"content": "<s>", "special": True},
                                       "2": {"content": "</s>", "special": True}, "342": {"content": "<tool▁x>", "special": False},
                                       "343": {"content": "<|pad|>", "special": False}},
              "chat_template": "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False))


def make_llama(base):
    byte_level_tokenizer(base, "llama-bpe", ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], 300, {
        "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": CHAT, "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 256}, template="<|begin_of_text|>")
    return transformers.LlamaConfig(**SHAPE, vocab_size=304, tie_word_embeddings=True, rope_theta=500000.0, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        bos_token_id=296, eos_token_id=[297, 298])


def make_mistral(base):
    spm_tokenizer(base)
    return transformers.MistralConfig(**SHAPE, vocab_size=350, sliding_window=None, bos_token_id=1, eos_token_id=2, head_dim=16)


def make_qwen2(base):
    byte_level_tokenizer(base, "qwen2", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 300, {
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_bos_token": False, "chat_template": CHAT,
        "tokenizer_class": "PreTrainedTokenizerFast"})
    return transformers.Qwen2Config(**SHAPE, vocab_size=304, tie_word_embeddings=False, rope_theta=1e6, bos_token_id=296, eos_token_id=298)


def make_qwen3(base):
    byte_level_tokenizer(base, "smollm", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 300, {
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"})
    (base / "chat_template.jinja").write_text(CHAT)
    (base / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}))
    return transformers.Qwen3Config(**SHAPE, vocab_size=304, head_dim=16, tie_word_embeddings=False, rope_theta=1e6,
                                    rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
                                    bos_token_id=297, eos_token_id=298)


def make_gemma(base):
    spm_tokenizer(base)
    return transformers.GemmaConfig(**SHAPE, vocab_size=350, head_dim=16, bos_token_id=1, eos_token_id=2)


def make_gemma2(base):
    spm_tokenizer(base)
    return transformers.Gemma2Config(**SHAPE, vocab_size=350, head_dim=16, sliding_window=16, query_pre_attn_scalar=16, bos_token_id=1,
                                     eos_token_id=2)


def make_gemma3(base):
    spm_tokenizer(base)
    return transformers.Gemma3TextConfig(**{**SHAPE, "num_hidden_layers": 6}, vocab_size=350, head_dim=16, sliding_window=16,
                                         query_pre_attn_scalar=16, bos_token_id=1, eos_token_id=2)


def make_phi3(base):
    spm_tokenizer(base)
    return transformers.Phi3Config(**SHAPE, vocab_size=350, bos_token_id=1, eos_token_id=2, pad_token_id=0, sliding_window=None,
                                   original_max_position_embeddings=64, rope_parameters={
                                       "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
                                       "short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.5, 2.5, 4.0, 6.0]})


def make_mixtral(base):
    spm_tokenizer(base)
    return transformers.MixtralConfig(**SHAPE, vocab_size=350, num_local_experts=4, num_experts_per_tok=2, sliding_window=None,
                                      head_dim=8, bos_token_id=1, eos_token_id=2)


def make_qwen3_moe(base):
    make_qwen3(base)
    return transformers.Qwen3MoeConfig(**SHAPE, vocab_size=304, head_dim=16, tie_word_embeddings=False, rope_theta=1e6, num_experts=4,
                                       num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True, bos_token_id=297,
                                       eos_token_id=298)


def make_smollm3(base):
    make_qwen2(base)
    return transformers.SmolLM3Config(**{**SHAPE, "num_hidden_layers": 4}, vocab_size=304, tie_word_embeddings=True, bos_token_id=296,
                                      eos_token_id=298, pad_token_id=296)


# name: (maker, tokenizer.ggml.pre, rsLoRA)
FAMILIES = {"llama": (make_llama, "llama-bpe", False), "mistral": (make_mistral, "default", False), "qwen2": (make_qwen2, "qwen2", True),
            "qwen3": (make_qwen3, "smollm", False)}
QUANTIZED = ["q4_0", "q5_1", "q4_k_m"]
# Compared while the converter is at hand (tests/peers/engines_converter.py), not kept as files.
MORE_FAMILIES = {"gemma": (make_gemma, "default", False), "gemma2": (make_gemma2, "default", False), "gemma3": (make_gemma3, "default", False),
                 "phi3": (make_phi3, "default", False), "mixtral": (make_mixtral, "default", False),
                 "qwen3_moe": (make_qwen3_moe, "smollm", False), "smollm3": (make_smollm3, "qwen2", True)}


def convert(llama_cpp, script, arguments, pre):
    """Runs a converter in this process with the pre-tokenizer's name given."""
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import runpy
    import conversion.base
    conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    argv, sys.argv = sys.argv, [script, *map(str, arguments)]
    try:
        runpy.run_path(str(llama_cpp / script), run_name="__main__")
    finally:
        sys.argv = argv
        del sys.path[:2]


def make(family, llama_cpp):
    build, pre, rslora = {**FAMILIES, **MORE_FAMILIES}[family]
    root = HERE / family
    shutil.rmtree(root, ignore_errors=True)
    base = root / "base"
    base.mkdir(parents=True)
    torch.manual_seed(sum(family.encode()))
    config = build(base)
    kept = {p.name: p.read_bytes() for p in base.iterdir()}
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if "norm" in name else 0.0))
    model.save_pretrained(base)
    for name, content in kept.items():
        (base / name).write_bytes(content)

    model = transformers.AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
    targets = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"] if family == "phi3" else ["q_proj", "k_proj", "v_proj", "o_proj"]
    if family != "phi3" and not hasattr(config, "num_experts_per_tok"):
        targets += ["gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, use_rslora=rslora, task_type="CAUSAL_LM", target_modules=targets))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randint(-8, 9, parameter.shape).float() / 64)
    adapted.save_pretrained(root / "adapter")
    (root / "adapter" / "README.md").unlink(missing_ok=True)
    path = root / "adapter" / "adapter_config.json"
    adapter = json.loads(path.read_text())
    adapter["base_model_name_or_path"] = family
    adapter["target_modules"] = sorted(adapter["target_modules"])
    path.write_text(json.dumps(adapter, indent=2))

    with tempfile.TemporaryDirectory() as scratch:
        merged = merge(family, pathlib.Path(scratch))
        for kind in ["f16", "q8_0"]:
            convert(llama_cpp, "convert_hf_to_gguf.py", [merged, "--outtype", kind, "--outfile", root / f"{kind}.gguf"], pre)
        convert(llama_cpp, "convert_lora_to_gguf.py", [root / "adapter", "--base", base, "--outfile", root / "lora.gguf"], pre)


def merge(family, scratch):
    """The directory of what PEFT merges, in f32, with the base's own companions."""
    base, merged = HERE / family / "base", scratch / family
    PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32),
                              HERE / family / "adapter").merge_and_unload().save_pretrained(merged)
    for path in base.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            (merged / path.name).write_bytes(path.read_bytes())
    return merged


def quantize(family, llama_cpp, binaries, kinds, out):
    """<out>/<kind>.gguf for each kind, f32 among them or not."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = pathlib.Path(scratch) / "f32.gguf"
        convert(llama_cpp, "convert_hf_to_gguf.py", [merge(family, pathlib.Path(scratch)), "--outtype", "f32", "--outfile", whole],
                {**FAMILIES, **MORE_FAMILIES}[family][1])
        for kind in kinds:
            if kind == "f32":
                shutil.copy(whole, out / "f32.gguf")
            else:
                subprocess.run([binaries / "llama-quantize", whole, out / f"{kind}.gguf", kind.upper(), "1"], check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    source, arguments = pathlib.Path(sys.argv[1]), sys.argv[2:]
    if arguments[:1] == ["--quantized"]:
        for name in arguments[2:] or ["llama"]:
            quantize(name, source, pathlib.Path(arguments[1]), QUANTIZED, HERE / name)
    else:
        for name in arguments or FAMILIES:
            make(name, source)
