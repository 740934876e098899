// The files beside the weights of a Hugging Face directory.
#include <array>

#include "core/error.h"
#include "core/file.h"
#include "core/gguf.h"
#include "data/gguf_vocabulary.h"
#include "data/spm_model.h"
#include "data/tokenizer_export.h"
#include "export/hf_model.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxCompanion = 512ull << 20;
constexpr const char* kDType = "bfloat16";

// Whatever of these the base has. config.json is apart.
constexpr std::array kCopied = {"generation_config.json",
                                "tokenizer.json",
                                "tokenizer_config.json",
                                "tokenizer.model",
                                "special_tokens_map.json",
                                "added_tokens.json",
                                "vocab.json",
                                "merges.txt",
                                "tekken.json",
                                "chat_template.jinja",
                                "chat_template.json",
                                "LICENSE",
                                "LICENSE.txt",
                                "LICENSE.md",
                                "NOTICE",
                                "NOTICE.txt",
                                "USE_POLICY.md"};

// The config as it is, or with its dtype corrected: vLLM would load what says float32 in half precision. How the base was
// quantized says nothing of what is written.
void copy_config(const fs::path& from, const fs::path& to) {
  const std::string text = read_file(from, kMaxCompanion);
  Json config = parse_json(text, from.string());
  bool changed = config.erase("quantization_config") > 0;
  for (const char* key : {"torch_dtype", "dtype"})  // transformers v4, v5
    if (config.contains(key) && config[key] != kDType) {
      config[key] = kDType;
      changed = true;
    }
  write_file(to, changed ? config.dump(2) + "\n" : text);
}

void copy_from_hf(const fs::path& base, const fs::path& target) {
  copy_config(base / "config.json", target / "config.json");
  for (const char* name : kCopied)
    if (fs::is_regular_file(base / name)) write_file(target / name, read_file(base / name, kMaxCompanion));
  const fs::path templates = "additional_chat_templates";
  if (!fs::is_directory(base / templates)) return;
  graft::create_directories(target / templates);
  for (const fs::directory_entry& entry : fs::directory_iterator(base / templates))
    if (entry.is_regular_file() && entry.path().extension() == ".jinja")
      write_file(target / templates / entry.path().filename(), read_file(entry.path(), kMaxCompanion));
}

void rebuild_from_gguf(const model::WeightSource& base, const fs::path& target) {
  Json config = base.hf_config();
  config["torch_dtype"] = kDType;
  write_file(target / "config.json", config.dump(2) + "\n");

  const GgufFile file(base.path());
  Json generation = Json::object();
  const data::SpecialTokens special = data::special_tokens_from_gguf(file);
  for (const auto& [key, id] :
       {std::pair{"bos_token_id", special.bos}, std::pair{"eos_token_id", special.eos}, std::pair{"pad_token_id", special.pad}})
    if (id >= 0) generation[key] = id;
  // Servers stop at these alone, and a chat model ends its turn with another token than a text.
  if (special.eot >= 0 && special.eot != special.eos)
    generation["eos_token_id"] = special.eos >= 0 ? Json{special.eos, special.eot} : Json(special.eot);
  write_file(target / "generation_config.json", generation.dump(2) + "\n");
  if (file.string("tokenizer.ggml.model") == "llama")
    write_file(target / "tokenizer.model", data::serialize(data::spm_model_from_gguf(file)));
  else
    write_file(target / "tokenizer.json", data::tokenizer_json_from_gguf(file).dump(1) + "\n");
  write_file(target / "tokenizer_config.json", data::tokenizer_config_json_from_gguf(file).dump(2) + "\n");
  if (file.has("tokenizer.chat_template")) write_file(target / "chat_template.jinja", file.string("tokenizer.chat_template"));
}

}  // namespace

void write_hf_companions(const model::WeightSource& base, const fs::path& target) {
  if (base.is_gguf())
    rebuild_from_gguf(base, target);
  else
    copy_from_hf(base.path(), target);
}

}  // namespace graft::exports
