// Cutting text into pieces before byte-pair merges: the patterns of the published tokenizers, each by hand as one scan.
//
//   gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   smollm  every digit is a piece of its own, then gpt2 between the digits
//   llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   qwen2   llama3 with \p{N} for \p{N}{1,3}
//   tekken  no contractions, words break before a capital:
//           [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|
//           [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|
//           \p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// The patterns are those of the models' tokenizer.json files; names are those of tokenizer.ggml.pre in GGUF.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"

namespace graft::data {

enum class PreTokenizer { gpt2, smollm, llama3, qwen2, tekken };

// The end of the piece that begins at p; p < end. Never scans a character more than a constant number of times over a whole text.
using PieceScanner = const char* (*)(const char* p, const char* end);
PieceScanner piece_scanner(PreTokenizer kind);

// tokenizer.ggml.pre; UnsupportedError naming it for any other.
PreTokenizer pre_tokenizer_from_gguf_name(const std::string& name, const std::string& origin);
const char* gguf_name(PreTokenizer kind);

// The pre_tokenizer object of tokenizer.json and back; UnsupportedError naming the part that is not known.
PreTokenizer pre_tokenizer_from_json(const Json& node, const std::string& origin);
Json to_json(PreTokenizer kind);

}  // namespace graft::data
