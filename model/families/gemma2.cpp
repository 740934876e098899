// Gemma 2: four norms, soft caps, every other layer with a sliding window (source: transformers models/gemma2; llama.cpp
// conversion/gemma.py and src/models/gemma2.cpp, which knows the attention scale by the number of layers).
#include <cmath>

#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

void complete(ModelSpec& spec) {
  spec.norm_gain_offset = 1;
  spec.norm_in_f32 = true;
  spec.post_norms = true;
  spec.activation = Activation::gelu_tanh;
  spec.embed_scale = std::sqrt(static_cast<double>(spec.hidden));
}

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "gemma2", "Gemma2ForCausalLM", {.tied = true, .head_dim = 256});
  if (fields.has("hidden_activation") && spec.activation != Activation::gelu_tanh)
    fields.unsupported("hidden_activation", "is not gelu_pytorch_tanh");
  complete(spec);
  spec.attention_scale = 1 / std::sqrt(fields.number_or("query_pre_attn_scalar", 256));
  // Absent means the default of transformers, null means none.
  spec.attention_softcap = fields.number_or("attn_logit_softcapping", config.contains("attn_logit_softcapping") ? 0 : 50);
  spec.final_softcap = fields.number_or("final_logit_softcapping", config.contains("final_logit_softcapping") ? 0 : 30);
  const std::int64_t window = fields.integer_or("sliding_window", config.contains("sliding_window") ? 0 : 4096);
  const auto sliding = read_hf_sliding(fields, spec.layers.size(), [](std::int64_t i) { return i % 2 == 0; });
  for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].window = sliding[i] ? window : 0;
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "gemma2", "Gemma2ForCausalLM");
  complete(spec);
  const bool is_27b = spec.layers.size() == 46;
  spec.attention_scale = 1 / std::sqrt(static_cast<double>(is_27b ? spec.hidden / spec.heads : spec.head_dim));
  spec.attention_softcap = gguf_number_or(file, "attn_logit_softcapping", 50);
  spec.final_softcap = gguf_number_or(file, "final_logit_softcapping", 30);
  const std::int64_t window = file.integer_or(gguf_key(file, "attention.sliding_window"), 4096);
  for (std::size_t i = 0; i < spec.layers.size(); i += 2) spec.layers[i].window = window;
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "gemma2");
  config["hidden_activation"] = "gelu_pytorch_tanh";
  config["query_pre_attn_scalar"] = std::llround(1 / (spec.attention_scale * spec.attention_scale));
  config["attn_logit_softcapping"] = spec.attention_softcap;
  config["final_logit_softcapping"] = spec.final_softcap;
  config["sliding_window"] = spec.layers[0].window;
  return config;
}

}  // namespace

extern const Family gemma2{"gemma2", {"Gemma2ForCausalLM"}, {"gemma2"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
