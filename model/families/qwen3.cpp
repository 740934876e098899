// Qwen3, dense: norms on q and k, an explicit head size (source: transformers models/qwen3; llama.cpp conversion/qwen.py).
#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "qwen3", "Qwen3ForCausalLM", {.head_dim = 128});
  spec.qk_norm = true;
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  const std::int64_t absent = config.contains("sliding_window") ? 0 : 4096;  // null means none
  const std::int64_t window = fields.boolean_or("use_sliding_window", false) ? fields.integer_or("sliding_window", absent) : 0;
  const std::int64_t first = fields.integer_or("max_window_layers", 28);
  const auto sliding = read_hf_sliding(fields, spec.layers.size(), [&](std::int64_t i) { return i >= first; });
  for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].window = sliding[i] ? window : 0;
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "qwen3", "Qwen3ForCausalLM");
  spec.qk_norm = true;
  spec.qkv_bias = spec.o_bias = file.find("blk.0.attn_q.bias") != nullptr;
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "qwen3");
  config["attention_bias"] = spec.qkv_bias;
  return config;
}

}  // namespace

extern const Family qwen3{"qwen3", {"Qwen3ForCausalLM"}, {"qwen3"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
