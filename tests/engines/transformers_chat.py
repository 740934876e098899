"""Chat templates that graft writes for bases that ship none (tests/golden/chat/written), as transformers renders them, against
golden.json, whose ids are those of data/chat_template.cpp."""
import json
import sys

from common import ROOT, check, finish, offline

offline()

import tokenizers  # noqa: E402
import transformers  # noqa: E402

GOLDEN = ROOT / "tests/golden/chat"
sys.path.insert(0, str(GOLDEN))
from make import TEMPLATES, WRITTEN  # noqa: E402


def differences(file):
    _, bos, eos, _, _ = TEMPLATES[file.removeprefix("written/")]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()),
                                                     **{key: text for key, text in (("bos_token", bos), ("eos_token", eos)) if text})
    tokenizer.chat_template = (GOLDEN / f"{file}.jinja").read_text()
    cases = [case for case in json.loads((GOLDEN / "golden.json").read_text()) if case["template"] == file]
    assert cases
    return sum(tokenizer.apply_chat_template(case["messages"], tokenize=False) != case["text"] for case in cases)


check("chat templates for bases without one: conversations that differ", sum(map(differences, WRITTEN)), 0)
finish()
