// Qwen3 with a mixture of experts in every layer (source: transformers models/qwen3_moe; llama.cpp conversion/qwen.py).
#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "qwen3_moe", "Qwen3MoeForCausalLM", {});
  spec.qk_norm = true;
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  const std::int64_t absent = config.contains("sliding_window") ? 0 : 4096;  // null means none
  const std::int64_t window = fields.boolean_or("use_sliding_window", false) ? fields.integer_or("sliding_window", absent) : 0;
  for (LayerSpec& layer : spec.layers) layer.window = window;
  if (fields.integer_or("decoder_sparse_step", 1) != 1)
    fields.unsupported("decoder_sparse_step", "is not 1; dense layers among mixture layers are not supported");
  spec.moe.experts = fields.has("num_experts") ? fields.integer("num_experts") : fields.integer("num_local_experts");
  spec.moe.per_token = fields.integer("num_experts_per_tok");
  spec.moe.ffn = fields.integer("moe_intermediate_size");
  spec.moe.normalize_weights = fields.boolean_or("norm_topk_prob", false);
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "qwen3_moe", "Qwen3MoeForCausalLM");
  spec.qk_norm = true;
  read_gguf_experts(file, spec);
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "qwen3_moe");
  config["attention_bias"] = spec.qkv_bias;
  config["num_experts"] = spec.moe.experts;
  config["num_experts_per_tok"] = spec.moe.per_token;
  config["moe_intermediate_size"] = spec.moe.ffn;
  config["norm_topk_prob"] = spec.moe.normalize_weights;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = Json::array();
  return config;
}

}  // namespace

extern const Family qwen3_moe{"qwen3_moe", {"Qwen3MoeForCausalLM"}, {"qwen3moe"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
