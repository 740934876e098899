#include "data/gguf_vocabulary.h"

#include <algorithm>

#include "core/error.h"
#include "data/special_tokens.h"

namespace graft::data {
namespace {

constexpr std::int64_t kNoId = 0xFFFFFFFF;  // some writers store "none" so

// Families whose tokenizer takes a whole piece that is a token as it is, and adds bos unless told otherwise.
bool of_tiktoken_kind(PreTokenizer kind) { return kind == PreTokenizer::llama3 || kind == PreTokenizer::tekken; }

}  // namespace

std::vector<GgufTokenType> gguf_token_types(const GgufFile& file) {
  const std::size_t count = file.strings("tokenizer.ggml.tokens").size();
  if (count == 0 || count > static_cast<std::size_t>(kMaxVocabulary))
    throw FormatError(cat(file.path().string(), ": tokenizer.ggml.tokens has ", count, " entries, not 1 to ", kMaxVocabulary));
  std::vector<GgufTokenType> types(count, GgufTokenType::normal);
  if (!file.has("tokenizer.ggml.token_type")) return types;
  const auto& stored = file.integers("tokenizer.ggml.token_type");
  if (stored.size() != count)
    throw FormatError(
        cat(file.path().string(), ": ", count, " tokens but ", stored.size(), " entries in tokenizer.ggml.token_type"));
  for (std::size_t id = 0; id < count; ++id) {
    if (stored[id] < 1 || stored[id] > 6)
      throw FormatError(cat(file.path().string(), ": tokenizer.ggml.token_type of id ", id, " is ", stored[id], ", not 1 to 6"));
    types[id] = static_cast<GgufTokenType>(stored[id]);
  }
  return types;
}

SpecialTokens special_tokens_from_gguf(const GgufFile& file) {
  const auto& tokens = file.strings("tokenizer.ggml.tokens");
  const auto types = gguf_token_types(file);
  const auto id_of = [&](const char* key) {
    const std::int64_t id = file.integer_or(key, -1);
    if (id == -1 || id == kNoId) return std::int32_t{-1};
    if (id < 0 || id >= static_cast<std::int64_t>(tokens.size()))
      throw FormatError(cat(file.path().string(), ": ", key, " is ", id, " but there are ", tokens.size(), " tokens"));
    return static_cast<std::int32_t>(id);
  };
  SpecialTokens out;
  out.bos = id_of("tokenizer.ggml.bos_token_id");
  out.eos = id_of("tokenizer.ggml.eos_token_id");
  out.eot = id_of("tokenizer.ggml.eot_token_id");
  out.pad = id_of("tokenizer.ggml.padding_token_id");
  out.unknown = id_of("tokenizer.ggml.unknown_token_id");
  for (const char* name : kEndOfTurn) {
    const auto found = std::find(tokens.begin(), tokens.end(), name);
    const auto id = static_cast<std::size_t>(found - tokens.begin());
    if (out.eot < 0 && found != tokens.end() && types[id] != GgufTokenType::normal) out.eot = static_cast<std::int32_t>(id);
  }
  // A SentencePiece model adds bos unless told otherwise; of the others, those of tiktoken's kind do.
  bool adds_bos = file.string_or("tokenizer.ggml.model", "") == "llama";
  if (!adds_bos && file.has("tokenizer.ggml.pre"))
    adds_bos = of_tiktoken_kind(pre_tokenizer_from_gguf_name(file.string("tokenizer.ggml.pre"), file.path().string()));
  out.add_bos = out.bos >= 0 && file.boolean_or("tokenizer.ggml.add_bos_token", adds_bos);
  out.add_eos = out.eos >= 0 && file.boolean_or("tokenizer.ggml.add_eos_token", false);
  return out;
}

BpeSource bpe_source_from_gguf(const GgufFile& file) {
  BpeSource source;
  source.origin = file.path().string();
  if (const std::string& model = file.string("tokenizer.ggml.model"); model != "gpt2")
    throw UnsupportedError(cat(source.origin, ": tokenizer.ggml.model = \"", model, "\" is not byte-level BPE (\"gpt2\")"));
  source.pre_tokenizer = pre_tokenizer_from_gguf_name(file.string_or("tokenizer.ggml.pre", "default"), source.origin);
  source.nfc = source.pre_tokenizer == PreTokenizer::qwen2;
  source.ignore_merges = of_tiktoken_kind(source.pre_tokenizer);
  const auto types = gguf_token_types(file);
  source.tokens = file.strings("tokenizer.ggml.tokens");
  for (std::size_t id = 0; id < types.size(); ++id) {
    const bool special = types[id] == GgufTokenType::control || types[id] == GgufTokenType::unknown;
    const bool added = special || types[id] == GgufTokenType::user_defined;
    if (source.tokens[id].empty()) continue;
    if (added) source.added.push_back({.id = static_cast<std::int32_t>(id), .content = source.tokens[id], .special = special});
    // Added tokens are literals, not spelled in the byte-level alphabet; unused ones fill holes in the numbering.
    if (types[id] == GgufTokenType::user_defined || types[id] == GgufTokenType::unused) source.tokens[id].clear();
  }
  const auto& merges = file.strings("tokenizer.ggml.merges");
  source.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto space = merges[i].find(' ', 1);
    if (space == std::string::npos || space + 1 == merges[i].size())
      throw FormatError(cat(source.origin, ": tokenizer.ggml.merges[", i, "] is not a pair of tokens"));
    source.merges.emplace_back(merges[i].substr(0, space), merges[i].substr(space + 1));
  }
  source.unknown = special_tokens_from_gguf(file).unknown;
  return source;
}

}  // namespace graft::data
