#!/usr/bin/env python3
"""Makes golden.json: conversations through the Jinja templates beside this file, tokenized by the reference libraries.

    make.py        (needs jinja2, tokenizers, sentencepiece)

The templates are those of SmolLM2-135M-Instruct (tokenizer.chat_template of the GGUF file), Qwen2.5-0.5B-Instruct,
Llama-3.1-8B-Instruct, Mistral-7B-Instruct-v0.3, Mistral-Small-3.1-24B-Instruct-2503 (v7; without its own system text, which holds
today's date) and gemma-2-2b-it, cut down to conversations without tools. Per case: layout, template (a .jinja), tokenizer (a folder
of ../tokenizers), messages, text (what Jinja gives), ids, loss (spans of ids), prompt_ids (with the generation prompt, or null).

Text is cut at the control tokens, which become ids, and where an answer begins, as it is in generation; the rest goes through
tokenizers or sentencepiece without its space in front, which only the very first text of a sequence has in transformers.
Loss: what a turn of the assistant adds to its prompt, up to and with the token that ends it.
"""
import json
import re
from pathlib import Path

import jinja2
import sentencepiece
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
TOKENIZERS = HERE.parent / "tokenizers"
# template, which begins with its layout: a tokenizer that knows its markers, bos, eos, the token that ends an answer, all markers
TEMPLATES = {
    "chatml": ("smollm", "", "", "<|im_end|>", ["<|im_start|>", "<|im_end|>"]),
    "chatml-qwen": ("qwen2", "", "", "<|im_end|>", ["<|im_start|>", "<|im_end|>"]),
    "llama3": ("llama3", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>",
               ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "mistral": ("mistral", "<s>", "</s>", "</s>", ["<s>", "</s>", "[INST]", "[/INST]"]),
    "mistral-v7": ("tekken", "<s>", "</s>", "</s>",
                   ["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]),
    "gemma": ("gemma", "<bos>", "<eos>", "<end_of_turn>", ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]),
}
# What graft writes for bases that ship none (data::ChatTemplate::jinja), byte by byte; the tokenizers have no template beside them.
WRITTEN = ["written/" + kind for kind in ("chatml", "llama3", "mistral", "mistral-v7", "gemma")]
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
CONVERSATIONS = [
    [(USER, "hi"), (ASSISTANT, "yo")],
    [(USER, "How do I rename a table?"), (ASSISTANT, "Use ALTER TABLE:\n\n  ALTER TABLE a RENAME TO b;")],
    [(USER, "one"), (ASSISTANT, "two"), (USER, "three"), (ASSISTANT, "four, don't you think?")],
    [(USER, "  spaces in front"), (ASSISTANT, "zwei drei, Würde 日本語 🚀")],
    [(USER, "1234567"), (ASSISTANT, "")],
    [(USER, "one"), (ASSISTANT, "two"), (USER, "and the last one is a question")],
    [(SYSTEM, "Answer in one word."), (USER, "Is it so?"), (ASSISTANT, "Yes")],
    [(SYSTEM, "Answer in one word."), (USER, "Is it so?")],
    [(SYSTEM, "Be brief."), (USER, "one"), (ASSISTANT, "two"), (USER, "three")],
]


def refuse(message):
    raise ValueError(message)


class Reference:
    def __init__(self, name):
        directory = TOKENIZERS / name
        if (directory / "tokenizer.json").exists():
            tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
            self.id_of = tokenizer.token_to_id
        else:
            processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
            front = processor.encode("<unk>")

            def encode(text):  # the space goes in front of "<unk>", which is then taken away, as transformers' LlamaTokenizer does
                ids = processor.encode("<unk>" + text)
                assert ids[: len(front)] == front
                return ids[len(front):]

            self.encode = encode
            # the golden models call the first pieces <s> and </s>, whatever the family does
            self.id_of = lambda token: {"<bos>": processor.bos_id(), "<eos>": processor.eos_id()}.get(token, processor.piece_to_id(token))

    def ids(self, text, markers):
        out = []
        for part in re.split("(" + "|".join(map(re.escape, markers)) + ")", text):
            out += [self.id_of(part)] if part in markers else self.encode(part) if part else []
        return out


def as_dicts(turns):
    return [{"role": role, "content": content} for role, content in turns]


def make(file, turns):
    kind = file.removeprefix("written/")
    name, bos, eos, stop, markers = TEMPLATES[kind]
    layout = kind.split("-")[0]
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((HERE / f"{file}.jinja").read_text())

    def render(part, prompt=False):
        return template.render(messages=as_dicts(part), add_generation_prompt=prompt, bos_token=bos, eos_token=eos,
                               raise_exception=refuse)

    reference = Reference(name)
    shown = list(turns)
    if turns[0][0] == SYSTEM and kind in ("mistral", "gemma"):
        # Mistral's template puts the system text in front of the last question, and leaves it out where an answer follows, as it never
        # does in a prompt. Gemma 2's refuses it; Gemma 3's puts it in front of the first question.
        questions = [i for i, (role, _) in enumerate(turns) if role == USER]
        at = questions[-1 if kind == "mistral" else 0]
        shown[at] = (USER, turns[0][1] + "\n\n" + turns[at][1])
        del shown[0]
        if file == "mistral" and turns[-1][0] == USER:
            assert render(shown) == render(turns)
    if file != kind:
        assert render(shown) == render(turns) and render(shown, True) == render(turns, True)
    ids, loss, text = [], [], ""
    for i, (role, _) in enumerate(shown):
        if role != ASSISTANT:
            continue
        prompt = render(shown[:i], True)
        assert prompt.startswith(text)
        whole = render(shown[:i + 1])
        assert whole.startswith(prompt)
        ids += reference.ids(prompt[len(text):], markers)
        end = whole.index(stop, len(prompt)) + len(stop)
        answer = reference.ids(whole[len(prompt):end], markers)
        loss.append([len(ids), len(ids) + len(answer)])
        ids += answer
        text = whole[:end]
    whole = render(shown)
    assert whole.startswith(text)
    ids += reference.ids(whole[len(text):], markers)
    last_is_question = turns[-1][0] == USER
    prompt_ids = ids + reference.ids(render(shown, True)[len(whole):], markers) if last_is_question else None
    return dict(layout=layout, template=file, tokenizer=name, messages=as_dicts(turns), text=whole, ids=ids, loss=loss, prompt_ids=prompt_ids)


def main():
    cases = []
    for file in [*TEMPLATES, *WRITTEN]:
        for turns in CONVERSATIONS:
            cases.append(make(file, turns))
    (HERE / "golden.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0))
    print(len(cases), "cases,", sum(len(case["ids"]) for case in cases), "ids")


if __name__ == "__main__":
    main()
