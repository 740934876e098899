#include "data/tokenizer.h"

#include "core/error.h"
#include "core/gguf.h"

namespace graft::data {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (fs::is_directory(path)) {
    if (fs::exists(path / "tokenizer.json")) return load_bpe_json(path / "tokenizer.json");
    if (fs::exists(path / "tokenizer.model")) return load_spm_model(path / "tokenizer.model");
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

}  // namespace graft::data
