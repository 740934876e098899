// PEFT's adapter directory (docs/formats.md): written so that PEFT and vLLM take it as their own, read as a hostile file.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "lora/adapter.h"

namespace graft::lora {
namespace {

constexpr std::string_view kPrefix = "base_model.model.", kSuffixA = ".lora_A.weight", kSuffixB = ".lora_B.weight";
constexpr std::uint64_t kMaxConfigBytes = 4 << 20;
const char* const kIdentityKey = "graft.base_identity";

// PEFT knows names and suffixes but not graft's patterns: these become what they chose.
std::vector<std::string> peft_targets(const AdapterSet& set) {
  const auto& patterns = set.config.target_modules;
  const bool everything = std::find(patterns.begin(), patterns.end(), "all-linear") != patterns.end();
  const auto is_pattern = [](const std::string& name) { return name.find('*') != std::string::npos; };
  if (!everything && std::none_of(patterns.begin(), patterns.end(), is_pattern)) return patterns;
  std::set<std::string> names;
  for (const auto& adapter : set.adapters)
    names.insert(everything ? adapter->module.substr(adapter->module.rfind('.') + 1) : adapter->module);
  return {names.begin(), names.end()};
}

// --- reading adapter_config.json ---------------------------------------------------------------------------------------------

// Keys whose value changes nothing in the mathematics of a plain LoRA that has been trained.
constexpr std::array kNeutral = {"peft_type",
                                 "task_type",
                                 "auto_mapping",
                                 "peft_version",
                                 "base_model_name_or_path",
                                 "revision",
                                 "inference_mode",
                                 "r",
                                 "lora_alpha",
                                 "lora_dropout",
                                 "use_rslora",
                                 "target_modules",
                                 "exclude_modules",
                                 "layers_to_transform",
                                 "layers_pattern",
                                 "init_lora_weights",
                                 "megatron_config",
                                 "megatron_core",
                                 "runtime_config",
                                 "ephemeral_gpu_offload",
                                 "loftq_config",
                                 "eva_config",
                                 "corda_config",
                                 "lora_ga_config",
                                 "qalora_group_size",
                                 "arrow_config",
                                 "ensure_weight_tying"};

// null, false, 0, "", [], {} and "none" mean: not used.
bool inert(const Json& value) {
  return value.is_null() || value == false || value == 0 || (value.is_string() && (value == "" || value == "none")) ||
         (value.is_structured() && value.empty());
}

// Initialisations that also change the base weights (PiSSA, OLoRA, CorDA, LoftQ) leave an adapter that only fits that base.
void check_initialisation(const Json& value, const std::string& origin) {
  if (value.is_null() || value.is_boolean()) return;
  static constexpr std::array kept = {"gaussian", "eva", "orthogonal", "mica"};
  if (value.is_string() && std::find(kept.begin(), kept.end(), value.get<std::string>()) != kept.end()) return;
  throw UnsupportedError(cat(origin, ": init_lora_weights is ", value.is_string() ? quote(value.get<std::string>()) : "no name",
                             ", which trains against changed base weights; convert the adapter to plain LoRA with PEFT's ",
                             "save_pretrained(path_initial_model_for_weight_conversion=...) first"));
}

LoraConfig read_config(const fs::path& file, bool& by_path) {
  const Json json = read_json(file, kMaxConfigBytes);
  const std::string origin = file.string();
  const auto type = json_get<std::string>(json, "peft_type", origin);
  if (type != "LORA") throw UnsupportedError(cat(origin, ": peft_type is ", quote(type), "; graft reads LORA"));
  for (const auto& [key, value] : json.items()) {
    if (inert(value) || std::find(kNeutral.begin(), kNeutral.end(), key) != kNeutral.end()) continue;
    throw UnsupportedError(cat(origin, ": ", quote(key), " is set; graft reads LoRA and rsLoRA with one rank and no ",
                               "further features. If the key does not change this adapter, remove it from the file"));
  }
  if (json.contains("init_lora_weights")) check_initialisation(json["init_lora_weights"], origin);

  LoraConfig config;
  config.rank = json_get<std::int64_t>(json, "r", origin);
  config.alpha = json_get<double>(json, "lora_alpha", origin);
  config.rslora = json_get_or<bool>(json, "use_rslora", false, origin);
  config.dropout = json_get_or<double>(json, "lora_dropout", 0, origin);
  if (config.rank < 1 || config.rank > 1 << 16) throw FormatError(cat(origin, ": r is ", config.rank, ", outside 1 to 65536"));
  if (!(config.alpha > 0 && config.alpha <= 1e9))
    throw FormatError(cat(origin, ": lora_alpha is ", config.alpha, ", not above 0 and at most 1e9"));
  if (!(config.dropout >= 0 && config.dropout < 1))
    throw FormatError(cat(origin, ": lora_dropout is ", config.dropout, ", outside 0 to 1"));

  // A regular expression, or a choice narrowed by layer: the tensors say which modules were chosen.
  const Json& targets = json_get<Json>(json, "target_modules", origin);
  const auto set_to = [&](const char* key) { return json.contains(key) && !inert(json[key]); };
  by_path = set_to("exclude_modules") || set_to("layers_to_transform") || set_to("layers_pattern");
  if (targets.is_string() && targets == "all-linear") {
    config.target_modules = {"all-linear"};
  } else if (targets.is_string()) {
    by_path = true;
  } else {
    config.target_modules = json_get<std::vector<std::string>>(json, "target_modules", origin);
  }
  return config;
}

// --- reading adapter_model.safetensors ---------------------------------------------------------------------------------------

struct Pair {
  const SafeTensor *a = nullptr, *b = nullptr;
};

// "layers.10" after "layers.9": runs of digits compare as numbers.
bool natural_less(const std::string& x, const std::string& y) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0, j = 0;
  while (i < x.size() && j < y.size()) {
    if (digit(x[i]) && digit(y[j])) {
      const std::size_t a = i, b = j;
      while (i < x.size() && digit(x[i])) ++i;
      while (j < y.size() && digit(y[j])) ++j;
      if (i - a != j - b) return i - a < j - b;
      if (const int order = x.compare(a, i - a, y, b, j - b)) return order < 0;
    } else if (x[i] != y[j]) {
      return x[i] < y[j];
    } else {
      ++i, ++j;
    }
  }
  return x.size() - i < y.size() - j;
}

std::map<std::string, Pair, decltype(&natural_less)> pair_up(const SafetensorsFile& file, const LoraConfig& config) {
  const std::string origin = file.path().string();
  std::map<std::string, Pair, decltype(&natural_less)> pairs(&natural_less);
  for (const auto& [name, tensor] : file.tensors()) {
    const std::string_view view = name;
    const bool a = view.ends_with(kSuffixA), b = view.ends_with(kSuffixB);
    if (!view.starts_with(kPrefix) || (!a && !b) || view.size() <= kPrefix.size() + kSuffixA.size())
      throw UnsupportedError(cat(origin, ": tensor ", quote(name), " is not base_model.model.<module>.lora_A.weight or ",
                                 "lora_B.weight; DoRA, embedding adapters and modules_to_save are not supported"));
    if (tensor.dtype != DType::f32 && tensor.dtype != DType::f16 && tensor.dtype != DType::bf16)
      throw FormatError(cat(origin, ": tensor ", quote(name), " is ", name_of(tensor.dtype), ", not F32, F16 or BF16"));
    if (tensor.shape.size() != 2 || tensor.shape[0] < 1 || tensor.shape[1] < 1)
      throw FormatError(cat(origin, ": tensor ", quote(name), " has ", tensor.shape.size(), " dimensions, not two"));
    const std::int64_t rank = tensor.shape[a ? 0 : 1];
    if (rank != config.rank)
      throw FormatError(
          cat(origin, ": tensor ", quote(name), " has rank ", rank, ", adapter_config.json says r = ", config.rank));
    Pair& pair = pairs[std::string(view.substr(kPrefix.size(), view.size() - kPrefix.size() - kSuffixA.size()))];
    (a ? pair.a : pair.b) = &tensor;
  }
  for (const auto& [module, pair] : pairs)
    if (!pair.a || !pair.b)
      throw FormatError(cat(origin, ": module ", quote(module), " has only ", pair.a ? "lora_A" : "lora_B"));
  if (pairs.empty()) throw FormatError(cat(origin, ": holds no adapter"));
  return pairs;
}

void copy_into(const SafetensorsFile& file, const SafeTensor& tensor, const at::Tensor& target) {
  const auto type = tensor.dtype == DType::f32 ? at::kFloat : tensor.dtype == DType::f16 ? at::kHalf : at::kBFloat16;
  // from_blob wants a mutable pointer; the tensor is only read.
  void* bytes = const_cast<std::byte*>(file.data(tensor).data());
  // The file may place a tensor at any byte; ATen wants elements aligned.
  const at::Tensor raw = at::from_blob(bytes, {static_cast<std::int64_t>(file.data(tensor).size())}, at::kByte).clone();
  target.copy_(raw.view(type).view(tensor.shape));
  if (!at::isfinite(target).all().item<bool>())
    throw FormatError(cat(file.path().string(), ": tensor ", quote(tensor.name), " holds a value that is not finite"));
}

}  // namespace

void save_peft(const AdapterSet& set, const fs::path& directory, const std::string& base) {
  const LoraConfig& c = set.config;
  const auto whole = static_cast<std::int64_t>(c.alpha);  // PEFT declares lora_alpha an integer: 32, not 32.0
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", base},
                       {"inference_mode", true},
                       {"r", c.rank},
                       {"lora_alpha", static_cast<double>(whole) == c.alpha ? Json(whole) : Json(c.alpha)},
                       {"lora_dropout", c.dropout},
                       {"target_modules", peft_targets(set)},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"init_lora_weights", true},
                       {"modules_to_save", nullptr},
                       {"rank_pattern", Json::object()},
                       {"alpha_pattern", Json::object()},
                       {"use_rslora", c.rslora},
                       {"use_dora", false},
                       {"layers_to_transform", nullptr},
                       {"layers_pattern", nullptr},
                       {"revision", nullptr}};
  write_file(directory / "adapter_config.json", config.dump(2) + "\n");

  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (!set.base_identity.empty()) metadata[kIdentityKey] = set.base_identity;
  SafetensorsWriter writer(directory / "adapter_model.safetensors", metadata);
  const auto each = [&](const auto& visit) {
    for (const auto& adapter : set.adapters) {
      const std::string prefix = std::string(kPrefix) + adapter->module;
      visit(prefix + std::string(kSuffixA), adapter->low_rank.a);
      visit(prefix + std::string(kSuffixB), adapter->low_rank.b);
    }
  };
  each([&](const std::string& name, const at::Tensor& t) { writer.tensor(name, DType::f32, t.sizes().vec()); });
  each([&](const std::string& name, const at::Tensor& t) { writer.data(name, t.const_data_ptr(), t.nbytes()); });
  writer.commit();
}

std::unique_ptr<AdapterSet> load_peft(const fs::path& directory) {
  bool by_path = false;
  LoraConfig config = read_config(directory / "adapter_config.json", by_path);
  const SafetensorsFile file(directory / "adapter_model.safetensors");
  const auto pairs = pair_up(file, config);

  std::vector<AdapterShape> shapes;
  for (const auto& [module, pair] : pairs) shapes.push_back({module, pair.a->shape[1], pair.b->shape[0]});
  if (by_path) {
    config.target_modules.clear();
    for (const auto& shape : shapes) config.target_modules.push_back(shape.module);
  }
  auto set = allocate(config, shapes, /*trainable=*/false);
  for (const auto& adapter : set->adapters) {
    const Pair& pair = pairs.at(adapter->module);
    copy_into(file, *pair.a, adapter->low_rank.a);
    copy_into(file, *pair.b, adapter->low_rank.b);
  }
  const auto identity = file.metadata().find(kIdentityKey);
  if (identity != file.metadata().end()) set->base_identity = identity->second;
  return set;
}

}  // namespace graft::lora
