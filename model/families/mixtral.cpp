// Mixtral: Mistral with a mixture of experts (source: transformers models/mixtral). GGUF files of it are read by llama.cpp.
#include "model/family.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "mixtral", "MixtralForCausalLM",
                                {.theta = 1e6, .eps = 1e-5, .kv_heads = config.contains("num_key_value_heads") ? 0 : 8});
  for (LayerSpec& layer : spec.layers) layer.window = fields.integer_or("sliding_window", 0);
  spec.moe = {.experts = fields.integer("num_local_experts"),
              .per_token = fields.integer("num_experts_per_tok"),
              .ffn = spec.ffn,
              .normalize_weights = true,
              .block = "block_sparse_moe",
              .gate = "w1",
              .up = "w3",
              .down = "w2"};
  fields.finish();
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "mixtral");
  config["sliding_window"] = spec.layers[0].window > 0 ? Json(spec.layers[0].window) : Json();
  config["num_local_experts"] = spec.moe.experts;
  config["num_experts_per_tok"] = spec.moe.per_token;
  return config;
}

}  // namespace

extern const Family mixtral{"mixtral", {"MixtralForCausalLM"}, {}, from_hf, nullptr, to_hf, true};

}  // namespace graft::model
