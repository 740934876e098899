// The tokenizer inside a GGUF file as the files of a Hugging Face directory, so that transformers and vLLM encode a merged
// model's text as llama.cpp does.
#pragma once

#include "core/gguf.h"
#include "core/json.h"

namespace graft::data {

// tokenizer.json: byte-level BPE with its merges, added tokens, pre-tokenizer and what is put before a text. UnsupportedError for
// others; SentencePiece's tokenizer.model is serialize(spm_model_from_gguf(file)) of data/spm_model.h.
Json tokenizer_json_from_gguf(const GgufFile& file);
// tokenizer_config.json: names of the special tokens; the chat template is a file of its own.
Json tokenizer_config_json_from_gguf(const GgufFile& file);

}  // namespace graft::data
