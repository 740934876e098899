"""Random strings that tokenizers disagree about: every plane, white space, digits, marks, apostrophes, look-alikes of markers."""
import random

TRICKY = list("'’ſsSTtReVMmLlDd  \t\n\r\v\f\0\x1c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u200b\u200d\ufeff/_-.,!?#<>|[]▁") + [
    "0", "7", "42", "123456", "²", "½", "Ⅻ", "٣", "𝟙", "一", "日本", "語", "가", "ᄀ", "ᅡ", "ᆨ", "é", "e\u0301", "A\u030a", "ñ", "\u0301",
    "\u0323\u0307", "\u0307\u0323", "\u0345", "ǅ", "ʰ", "ªº", "ß", "İ", "ı", "K", "Å", "ﬁ", "क्ष", "ক\u09be\u09d7", "ไทย", "שלום", "🚀",
    "👩‍👩‍👧", "🇩🇪", "\U00011935\U00011930", "\U0001e4ec", "\U00011de1", "\U00016ff4", "\u1c8a", "\U00010d41", "\ue000", "\U0010ffff",
    "  ", "   ", "\n\n", "\r\n", " \n ", "'s", "'LL", "'ve", "don't", "I'M", "'ſ", "aaaa", "the", " the", "camelCase", "HTTPServer",
    "\u0344", "\u0958", "\u2126", "\ufb1d", "\U0001d15e", "\u0f73", "豈",
]
MARKERS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<unk>", "[INST]", "[/INST]",
           "<start_of_turn>", "<end_of_turn>", "<think>", "</think>", "<tool_call>", "<repo_name>", "<0x0A>", "<b>"]


def any_code_point(rng):
    while True:
        limit = rng.choice([0x80, 0x250, 0x600, 0x1000, 0x3000, 0x10000, 0x20000, 0x110000])
        code = rng.randrange(limit)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def words(rng):
    base = rng.choice([0x61, 0x41, 0xE0, 0x430, 0x3B1, 0x5D0, 0x627, 0x905, 0x4E00, 0xAC00, 0x10400, 0x1E900])
    return "".join(chr(base + rng.randrange(24)) for _ in range(rng.randrange(1, 8)))


def part(rng):
    kind = rng.randrange(10)
    if kind < 4:
        return rng.choice(TRICKY)
    if kind < 6:
        return any_code_point(rng)
    if kind < 8:
        return rng.choice(["", " ", "  ", "\n"]) + words(rng)
    if kind == 8:
        return str(rng.randrange(10 ** rng.randrange(1, 8)))
    marker = rng.choice(MARKERS)
    return marker if rng.random() < 0.6 else marker[: rng.randrange(len(marker))] + rng.choice(TRICKY)


def random_strings(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(part(rng) for _ in range(rng.randrange(1, 24)))
