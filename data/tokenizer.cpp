#include "data/tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "core/gguf.h"
#include "core/json.h"

namespace graft::data {
namespace {

// A tokenizer.json that transformers made out of a SentencePiece model (Llama 2, Mistral, Gemma, Phi-3); such repositories have
// the model beside it.
bool is_converted(const std::filesystem::path& tokenizer_json) {
  const Json root = read_json(tokenizer_json);
  return root.is_object() && root.contains("model") && root["model"].is_object() &&
         json_get_or<bool>(root["model"], "byte_fallback", false, tokenizer_json.string());
}

}  // namespace

bool has_spm_model(const std::filesystem::path& directory) {
  const auto json = directory / "tokenizer.json";
  return std::filesystem::exists(directory / "tokenizer.model") && (!std::filesystem::exists(json) || is_converted(json));
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (fs::is_directory(path)) {
    if (has_spm_model(path)) return load_spm_model(path / "tokenizer.model");
    if (fs::exists(path / "tokenizer.json")) return load_bpe_json(path / "tokenizer.json");
    throw UserError(cat(path.string(), ": neither tokenizer.json nor tokenizer.model is in this directory"));
  }
  if (!fs::exists(path)) throw UserError(cat(path.string(), ": there is no such file or directory"));
  if (path.extension() == ".json") return load_bpe_json(path);
  if (path.extension() == ".model") return load_spm_model(path);
  if (path.extension() != ".gguf")
    throw UnsupportedError(cat(path.string(), ": a tokenizer is read from a .gguf, tokenizer.json or tokenizer.model"));
  const std::string model = GgufFile(path).string("tokenizer.ggml.model");
  if (model == "gpt2") return load_bpe_gguf(path);
  if (model == "llama") return load_spm_gguf(path);
  throw UnsupportedError(cat(path.string(), ": tokenizer.ggml.model = \"", model,
                             "\"; graft has \"gpt2\" (byte-level BPE) and "
                             "\"llama\" (SentencePiece)"));
}

std::string text_of_id(const Tokenizer& tokenizer, std::int32_t id) {
  return tokenizer.is_control(id) ? tokenizer.decode(std::span(&id, 1), /*with_control=*/true) : tokenizer.token_bytes(id);
}

std::optional<std::int32_t> differing_id(const Tokenizer& a, const Tokenizer& b) {
  if (a.hash() == b.hash()) return std::nullopt;
  for (std::int32_t id = 0; id < std::min(a.vocab_size(), b.vocab_size()); ++id) {
    const std::string left = text_of_id(a, id), right = text_of_id(b, id);
    if (!left.empty() && !right.empty() && left != right) return id;
  }
  return std::nullopt;
}

}  // namespace graft::data
