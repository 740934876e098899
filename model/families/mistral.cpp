// Mistral 7B and its kin (source: transformers models/mistral). GGUF files of it are read by llama.cpp: they say "llama".
#include "model/family.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec =
      read_hf_base(fields, "mistral", "MistralForCausalLM", {.kv_heads = config.contains("num_key_value_heads") ? 0 : 8});
  // Absent means the default of transformers, null means none.
  const std::int64_t window = fields.integer_or("sliding_window", config.contains("sliding_window") ? 0 : 4096);
  for (LayerSpec& layer : spec.layers) layer.window = window;
  fields.finish();
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "mistral");
  config["sliding_window"] = spec.layers[0].window > 0 ? Json(spec.layers[0].window) : Json();
  return config;
}

}  // namespace

extern const Family mistral{"mistral", {"MistralForCausalLM"}, {}, from_hf, nullptr, to_hf, true};

}  // namespace graft::model
