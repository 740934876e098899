// The files beside the weights of a Hugging Face directory.
#include <algorithm>
#include <array>
#include <type_traits>
#include <variant>

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
constexpr const char* kCode = "auto_map";  // names Python files beside a base, which are not copied: readers have these models

constexpr std::array kSpecialTokens = {"bos_token_id", "eos_token_id", "pad_token_id"};

// Whatever of these the base has, as it is.
constexpr std::array kCopied = {"tokenizer.json",
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

// Names relative to `base` of the files in base/folder that `wanted` takes.
template <class Wanted>
void add_files(std::vector<fs::path>& names, const fs::path& base, const fs::path& folder, const Wanted& wanted) {
  if (!fs::is_directory(base / folder)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(base / folder))
    if (const fs::path name = entry.path().filename(); entry.is_regular_file() && wanted(name)) names.push_back(folder / name);
}

// What is copied as it is.
std::vector<fs::path> copied_of(const fs::path& base) {
  std::vector<fs::path> files;
  add_files(files, base, "", [](const fs::path& name) {
    return std::find(kCopied.begin(), kCopied.end(), name) != kCopied.end() ||
           name.string().starts_with("tokenizer.model.");  // .v3, .v7: Mistral's own, for --tokenizer-mode mistral
  });
  add_files(files, base, "additional_chat_templates", [](const fs::path& name) { return name.extension() == ".jinja"; });
  std::sort(files.begin(), files.end());
  return files;
}

// Names relative to `base` of what the companions are made from.
std::vector<fs::path> companions_of(const fs::path& base) {
  std::vector<fs::path> files = copied_of(base);
  for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json"})
    if (fs::is_regular_file(base / name)) files.emplace_back(name);
  return files;
}

// The config as it is, or with its dtype corrected or added: vLLM would load what says float32, or nothing, in half precision.
// How the base was quantized says nothing of what is written.
void copy_config(const fs::path& from, const char* dtype, const fs::path& to) {
  const std::string text = read_file(from, kMaxCompanion);
  Json config = parse_json(text, from.string());
  bool changed = config.erase("quantization_config") + config.erase(kCode) > 0;
  for (const char* key : {"torch_dtype", "dtype"})  // transformers v4, v5
    if (config.contains(key) && config[key] != dtype) {
      config[key] = dtype;
      changed = true;
    }
  if (!config.contains("torch_dtype") && !config.contains("dtype")) {
    config["torch_dtype"] = dtype;
    changed = true;
  }
  write_file(to, changed ? config.dump(2) + "\n" : text);
}

void copy_tokenizer_config(const fs::path& from, const fs::path& to) {
  if (!fs::is_regular_file(from)) return;
  const std::string text = read_file(from, kMaxCompanion);
  Json config = parse_json(text, from.string());
  write_file(to, config.is_object() && config.erase(kCode) > 0 ? config.dump(2) + "\n" : text);
}

// One id, a list of them, or none.
std::vector<std::int32_t> token_ids(const Json& config, const char* key, const std::string& origin) {
  if (!config.contains(key) || config[key].is_null()) return {};
  if (config[key].is_array()) return json_get<std::vector<std::int32_t>>(config, key, origin);
  return {json_get<std::int32_t>(config, key, origin)};
}

// Whether any of `stop_ids` was not yet among what ends an answer; servers stop at nothing else.
bool add_stop_ids(Json& generation, const std::vector<std::int32_t>& stop_ids, const std::string& origin) {
  std::vector<std::int32_t> ids = token_ids(generation, "eos_token_id", origin);
  const std::size_t known = ids.size();
  for (const std::int32_t id : stop_ids)
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  if (ids.size() == known) return false;
  generation["eos_token_id"] = ids.size() == 1 ? Json(ids.front()) : Json(ids);
  return true;
}

// Where the file does not name an end, or is not there, readers take what config.json says; a file that names one has the last
// word.
void copy_generation_config(const fs::path& base, const std::vector<std::int32_t>& stop_ids, const fs::path& target) {
  const fs::path from = base / "generation_config.json", to = target / "generation_config.json";
  Json generation = Json::object();
  std::string text;
  if (fs::is_regular_file(from)) {
    text = read_file(from, kMaxCompanion);
    generation = parse_json(text, from.string());
    if (!generation.is_object()) throw FormatError(cat(from.string(), ": is not an object"));
  }
  const Json config = read_json(base / "config.json");
  for (const char* key : kSpecialTokens)
    if (generation.value(key, Json()).is_null() && config.contains(key) && !config[key].is_null()) generation[key] = config[key];
  if (add_stop_ids(generation, stop_ids, from.string()))
    write_file(to, generation.dump(2) + "\n");
  else if (!text.empty())
    write_file(to, text);
}

void copy_from_hf(const fs::path& base, const std::vector<std::int32_t>& stop_ids, const char* dtype, const fs::path& target) {
  copy_config(base / "config.json", dtype, target / "config.json");
  copy_tokenizer_config(base / "tokenizer_config.json", target / "tokenizer_config.json");
  copy_generation_config(base, stop_ids, target);
  for (const fs::path& name : copied_of(base)) {
    graft::create_directories((target / name).parent_path());
    write_file(target / name, read_file(base / name, kMaxCompanion));
  }
}

void rebuild_from_gguf(const model::WeightSource& base, const std::vector<std::int32_t>& stop_ids, const char* dtype,
                       const fs::path& target) {
  Json config = base.hf_config();
  config["torch_dtype"] = dtype;
  write_file(target / "config.json", config.dump(2) + "\n");

  const GgufFile file(base.path());
  Json generation = Json::object();
  const data::SpecialTokens special = data::special_tokens_from_gguf(file);
  for (const auto& [key, id] :
       {std::pair{"bos_token_id", special.bos}, std::pair{"eos_token_id", special.eos}, std::pair{"pad_token_id", special.pad}})
    if (id >= 0) generation[key] = id;
  // A chat model ends its turn with another token than a text.
  if (special.eot >= 0) add_stop_ids(generation, {special.eot}, base.path().string());
  add_stop_ids(generation, stop_ids, base.path().string());
  write_file(target / "generation_config.json", generation.dump(2) + "\n");
  if (file.string("tokenizer.ggml.model") == "llama")
    write_file(target / "tokenizer.model", data::serialize(data::spm_model_from_gguf(file)));
  else
    write_file(target / "tokenizer.json", data::tokenizer_json_from_gguf(file).dump(1) + "\n");
  write_file(target / "tokenizer_config.json", data::tokenizer_config_json_from_gguf(file).dump(2) + "\n");
  if (file.has("tokenizer.chat_template")) write_file(target / "chat_template.jinja", file.string("tokenizer.chat_template"));
}

void hash_metadata(Sha256& hash, const GgufFile& file) {
  for (const auto& [key, pair] : file.pairs()) {
    hash.update(cat(key.size(), " ", key, " ", static_cast<int>(pair.type), pair.is_array, " ", pair.value.index(), " "));
    std::visit(
        [&](const auto& value) {
          using Value = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<Value, std::string>) {
            hash.update(value);
          } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
            for (const std::string& each : value) hash.update(cat(each.size(), " ", each));
          } else if constexpr (std::is_arithmetic_v<Value>) {
            hash.update(&value, sizeof value);
          } else {
            hash.update(value.data(), value.size() * sizeof value[0]);
          }
        },
        pair.value);
  }
}

}  // namespace

std::string companions_hash(const model::WeightSource& base, const std::vector<std::int32_t>& stop_ids) {
  Sha256 hash;
  if (base.is_gguf())
    hash_metadata(hash, GgufFile(base.path()));
  else
    for (const fs::path& name : companions_of(base.path()))
      hash.update(cat(name.string(), " ", sha256_file(base.path() / name), "\n"));
  for (const std::int32_t id : stop_ids) hash.update(cat(id, "\n"));
  return hash.hex();
}

void write_hf_companions(const model::WeightSource& base, const std::vector<std::int32_t>& stop_ids, const fs::path& target,
                         DType type) {
  const char* const dtype = type == DType::f16 ? "float16" : "bfloat16";
  if (base.is_gguf())
    rebuild_from_gguf(base, stop_ids, dtype, target);
  else
    copy_from_hf(base.path(), stop_ids, dtype, target);
}

}  // namespace graft::exports
