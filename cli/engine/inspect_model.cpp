#include <map>

#include "cli/engine/inspect.h"
#include "core/error.h"
#include "core/gguf.h"
#include "core/safetensors.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "lora/adapter.h"
#include "model/weights.h"

namespace graft::cli {
namespace {

// How many tensors and elements are stored in each type.
class TypeCount {
 public:
  void add(const std::string& type, const std::vector<std::int64_t>& shape) {
    std::int64_t elements = 1;
    for (const std::int64_t size : shape) elements *= size;
    auto& [tensors, total] = counts_[type];
    ++tensors;
    total += elements;
  }
  Json json() const {
    Json list = Json::array();
    for (const auto& [type, count] : counts_)
      list.push_back({{"stored as", type}, {"tensors", count.first}, {"parameters", count.second}});
    return list;
  }

 private:
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> counts_;
};

Json tokenizer_json(const fs::path& path) {
  try {
    const auto tokenizer = data::load_tokenizer(path);
    std::string layout = "none that graft knows";
    try {
      layout = data::make_chat_template(*tokenizer)->name();
    } catch (const UnsupportedError&) {
    }
    return {
        {"kind", tokenizer->kind()}, {"ids", tokenizer->vocab_size()}, {"conversations", layout}, {"hash", tokenizer->hash()}};
  } catch (const UserError& error) {
    return {{"problem", error.what()}};
  }
}

Json spec_json(const model::ModelSpec& spec) {
  return {{"family", spec.family},
          {"architecture", spec.architecture},
          {"parameters", spec.parameters()},
          {"vocabulary", spec.vocab},
          {"hidden", spec.hidden},
          {"layers", spec.layers.size()},
          {"heads", spec.heads},
          {"key/value heads", spec.kv_heads},
          {"head size", spec.head_dim},
          {"feed-forward", spec.ffn},
          {"experts", spec.moe.experts},
          {"context", spec.context},
          {"rope theta", spec.rope.theta},
          {"tied head", spec.tied_head}};
}

Json gguf_value(const GgufPair& pair) {
  if (pair.is_array)
    return std::visit(
        [](const auto& value) -> Json {
          if constexpr (requires {
                          value.begin();
                          value.size();
                        } &&
                        !std::is_same_v<std::decay_t<decltype(value)>, std::string>)
            return cat("list of ", value.size());
          else
            return nullptr;
        },
        pair.value);
  return std::visit(
      [](const auto& value) -> Json {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>)
          return value.size() > 80 ? Json(cat("text of ", value.size(), " bytes")) : Json(value);
        else if constexpr (std::is_arithmetic_v<T>)
          return value;
        else
          return nullptr;
      },
      pair.value);
}

}  // namespace

Json inspect_gguf(const fs::path& path) {
  const GgufFile file(path);
  TypeCount types;
  Json tensors = Json::array(), metadata = Json::object();
  for (const GgufTensor& tensor : file.tensors()) {
    types.add(info_of(tensor.type).name, tensor.shape);
    tensors.push_back({{"name", tensor.name}, {"shape", tensor.shape}, {"stored as", info_of(tensor.type).name}});
  }
  for (const auto& [key, pair] : file.pairs()) metadata[key] = gguf_value(pair);
  const bool adapter = file.string_or("general.type", "") == "adapter";
  return {{"kind", adapter ? "GGUF LoRA" : "GGUF file"},
          {"path", path.string()},
          {"types", types.json()},
          {"metadata", metadata},
          {"tensors", tensors}};
}

Json inspect_safetensors(const fs::path& path) {
  const SafetensorsFile file(path);
  TypeCount types;
  Json tensors = Json::array();
  for (const auto& [name, tensor] : file.tensors()) {
    types.add(std::string(name_of(tensor.dtype)), tensor.shape);
    tensors.push_back({{"name", name}, {"shape", tensor.shape}, {"stored as", name_of(tensor.dtype)}});
  }
  return {{"kind", "safetensors file"},
          {"path", path.string()},
          {"types", types.json()},
          {"metadata", file.metadata()},
          {"tensors", tensors}};
}

Json inspect_model(const fs::path& path) {
  std::unique_ptr<model::WeightSource> weights;
  try {
    weights = model::open_weights(path);
  } catch (const UserError& error) {
    if (path.extension() != ".gguf") throw;
    Json found = inspect_gguf(path);  // a LoRA, or a model that graft cannot run: show what the file says
    if (found["kind"] != "GGUF LoRA") found["problem"] = error.what();
    return found;
  }
  TypeCount types;
  Json tensors = Json::array();
  for (const model::WeightInfo& weight : weights->weights()) {
    types.add(weight.stored_as, weight.shape);
    tensors.push_back({{"name", weight.name}, {"shape", weight.shape}, {"stored as", weight.stored_as}});
  }
  Json found = {{"kind", weights->is_gguf() ? "GGUF model" : "Hugging Face model"},
                {"path", path.string()},
                {"spec", spec_json(weights->spec())},
                {"types", types.json()},
                {"tokenizer", tokenizer_json(path)},
                {"fingerprint", weights->identity()}};
  if (weights->is_gguf()) found["metadata"] = inspect_gguf(path)["metadata"];
  found["tensors"] = tensors;
  return found;
}

Json inspect_adapter(const fs::path& directory) {
  const auto set = lora::load_peft(directory);
  Json modules = Json::array();
  for (const auto& adapter : set->adapters)
    modules.push_back({{"name", adapter->module}, {"in", adapter->low_rank.a.size(1)}, {"out", adapter->low_rank.b.size(0)}});
  return {{"kind", "LoRA adapter (PEFT)"},
          {"path", directory.string()},
          {"rank", set->config.rank},
          {"alpha", set->config.alpha},
          {"rslora", set->config.rslora},
          {"dropout", set->config.dropout},
          {"parameters", set->count()},
          {"trained on base", set->base_identity.empty() ? "unknown" : set->base_identity},
          {"target_modules", set->config.target_modules},
          {"tensors", modules}};
}

}  // namespace graft::cli
