// The tokenizer.ggml.* metadata of a GGUF file, checked.
#pragma once

#include <vector>

#include "core/gguf.h"
#include "data/bpe_tokenizer.h"
#include "data/tokenizer.h"

namespace graft::data {

enum class GgufTokenType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// One per token of tokenizer.ggml.tokens; all normal when the file has none. FormatError for a type outside 1 to 6 or another
// count.
std::vector<GgufTokenType> gguf_token_types(const GgufFile& file);

// bos, eos, eot, pad, unknown and what is added around a text. FormatError for an id outside the vocabulary.
SpecialTokens special_tokens_from_gguf(const GgufFile& file);

// tokenizer.ggml.model = "gpt2". FormatError or UnsupportedError otherwise.
BpeSource bpe_source_from_gguf(const GgufFile& file);

}  // namespace graft::data
