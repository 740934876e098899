"""Our GGUF files in llama.cpp: perplexity within 1 % of ours on the same text and windows, and text that it generates.

llama-perplexity cuts the text into windows of n tokens, each evaluated alone, and scores the tokens from n/2 + 1 on; ours are summed
over the same. Where the tokenizer adds a beginning-of-text token, the first of each window is replaced by it, here too.
"""
import math
import os
import re
import subprocess

from common import Run, check, finish, offline

offline()

import gguf  # noqa: E402

WINDOW, WINDOWS, LIMIT = 512, 4, 0.01
PROMPT = "To rename a column of a table in PostgreSQL,"


def windows_of(run, tokenizer):
    fields = gguf.GGUFReader(tokenizer).fields
    ids = run.our_ids(tokenizer, [run.heldout()["text"]])[0]
    add_bos = fields["tokenizer.ggml.add_bos_token"].contents() if "tokenizer.ggml.add_bos_token" in fields else False
    if add_bos:
        ids = [fields["tokenizer.ggml.bos_token_id"].contents(), *ids]
    cut = [ids[at:at + WINDOW] for at in range(0, len(ids) - WINDOW + 1, WINDOW)][:WINDOWS]
    assert len(cut) == WINDOWS, f"the held-out text has {len(ids)} tokens"
    return [[fields["tokenizer.ggml.bos_token_id"].contents(), *ids[1:]] for ids in cut] if add_bos else cut


def our_perplexity(run, model, windows, adapter=None, storage="bf16"):
    logprob = run.ours(model, windows, adapter, storage=storage, compute="f32", logprob=True).double().reshape(len(windows), WINDOW)
    return math.exp(-logprob[:, WINDOW // 2 + 1:].mean().item())


def call(run, program, *arguments):
    done = subprocess.run([run.engine / program, *map(str, arguments), "-t", str(os.cpu_count())], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{program} {arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout, done.stderr


def their_perplexity(run, model, *options):
    out = "".join(call(run, "llama-perplexity", "-m", model, "-f", run.work / "heldout.txt", "-c", WINDOW, "-b", WINDOW,
                       "--chunks", WINDOWS, *options))
    return float(re.search(r"Final estimate: PPL = ([0-9.]+)", out)[1])


def perplexity(run):
    (run.work / "heldout.txt").write_text(run.heldout()["text"])
    first = run.artifact("gguf-f16.gguf")
    windows = windows_of(run, first)
    base = our_perplexity(run, run.base, windows)
    ours = our_perplexity(run, run.base, windows, run.adapter)
    print(f"perplexity of base {base:.4f} and adapted {ours:.4f} in graft, {WINDOWS} windows of {WINDOW}")
    check("the adapter changes the base: perplexity, adapted over base", ours / base, "< 0.99", ours < 0.99 * base)
    for name in ("gguf-f32.gguf", "gguf-f16.gguf", "gguf-bf16.gguf", "gguf-q8_0.gguf"):
        theirs = their_perplexity(run, run.artifact(name))
        print(f"{name}: {theirs:.4f} in llama.cpp")
        check(f"llama.cpp, {name}: perplexity against base + adapter in graft", abs(theirs / ours - 1), LIMIT)
    for kind in ("q4_0", "q4_0-awq-gptq", "q4_1", "q5_0", "q5_1", "q4_k_s", "q4_k_m", "q4_k_m-imatrix", "q5_k_m", "q6_k"):
        name = f"gguf-{kind}.gguf"  # far from base + adapter: against the file itself
        own, theirs = our_perplexity(run, run.artifact(name), windows, storage="f32"), their_perplexity(run, run.artifact(name))
        print(f"{name}: {own:.4f} in graft, {theirs:.4f} in llama.cpp")
        check(f"llama.cpp, {name}: perplexity against graft on the same file", abs(theirs / own - 1), LIMIT)
    if run.base.is_file():
        unadapted = their_perplexity(run, run.base)
        print(f"base: {unadapted:.4f} in llama.cpp")
        theirs = their_perplexity(run, run.base, "--lora", run.artifact("gguf-lora.gguf"))
        check("llama.cpp, base + gguf-lora.gguf: perplexity against graft", abs(theirs / ours - 1), LIMIT)
        check("llama.cpp, base + gguf-lora.gguf: perplexity, adapted over base", theirs / unadapted, "< 0.99",
              theirs < 0.99 * unadapted)


def text(run):
    path = run.artifact("gguf-f16.gguf")
    out, _ = call(run, "llama-completion", "-m", path, "-p", PROMPT, "-n", 32, "--temp", 0, "-no-cnv", "--no-display-prompt", "-c", 512)
    print(f"llama.cpp continues: {out.strip()!r}")
    prompt, continuation = run.our_ids(path, [PROMPT, out.rstrip("\n").removesuffix(" [end of text]")])
    logits = run.ours(path, [prompt + continuation[:-1]])[len(prompt) - 1:]
    same = (logits.argmax(1).tolist()[i] == token for i, token in enumerate(continuation))
    agreeing = sum(same) / max(1, len(continuation))
    check(f"llama.cpp, gguf-f16.gguf: share of {len(continuation)} greedy tokens that are our most likely", agreeing, ">= 0.9",
          agreeing >= 0.9)
    field = gguf.GGUFReader(path).fields.get("tokenizer.chat_template")
    check("gguf-f16.gguf: chat template present", "yes" if field else "no", "yes", bool(field))
    out, _ = call(run, "llama-completion", "-m", path, "-cnv", "-st", "--jinja", "-p", "How do I rename a table?", "-n", 24,
                  "--temp", 0, "-c", 512)
    words = out.rpartition("\nassistant\n")[2].split()
    print(f"llama.cpp converses: {out.strip()!r}")
    check("llama.cpp, gguf-f16.gguf: words in its answer to a question", len(words), ">= 5", len(words) >= 5)


def main():
    run = Run()
    for part in (perplexity, text):
        if run.part in ("", part.__name__):
            part(run)
    finish()


if __name__ == "__main__":
    main()
