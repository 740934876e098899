// Gemma 3, text: four norms, norms on q and k, five local layers (own rotary base) for each global one (source: transformers
// models/gemma3; llama.cpp conversion/gemma.py and src/models/gemma3.cpp, which knows the attention scale by the number of
// layers).
#include <cmath>

#include "core/error.h"
#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

void complete(ModelSpec& spec) {
  spec.norm_gain_offset = 1;
  spec.norm_in_f32 = true;
  spec.post_norms = true;
  spec.qk_norm = true;
  spec.activation = Activation::gelu_tanh;
  spec.embed_scale = std::sqrt(static_cast<double>(spec.hidden));
}

void set_local(ModelSpec& spec, std::size_t layer, std::int64_t window) {
  spec.layers[layer].window = window;
  spec.layers[layer].local_rope = true;
}

// v5 nests rope_parameters by kind of layer; v4 has rope_theta, rope_scaling (global layers) and rope_local_base_freq.
void read_ropes(const HfFields& fields, ModelSpec& spec) {
  const double global = fields.number_or("rope_theta", 1e6), local = fields.number_or("rope_local_base_freq", 1e4);
  if (const auto nested = fields.object("rope_parameters")) {
    spec.rope = read_hf_rope(*nested, nested->object("full_attention"), global, 1, spec.head_dim, spec.context, 0);
    spec.rope_local = read_hf_rope(*nested, nested->object("sliding_attention"), local, 1, spec.head_dim, spec.context, 0);
    nested->finish();
  } else {
    spec.rope = read_hf_rope(fields, fields.object("rope_scaling"), global, 1, spec.head_dim, spec.context, 0);
    spec.rope_local = read_hf_rope(fields, std::nullopt, local, 1, spec.head_dim, spec.context, 0);
  }
}

ModelSpec from_hf(const Json& config, const std::string& origin) {
  // Google's own files leave out whatever equals the default of transformers.
  Json complete_config = {{"vocab_size", 262208},      {"num_attention_heads", 8}, {"num_key_value_heads", 4},
                          {"head_dim", 256},           {"sliding_window", 4096},   {"max_position_embeddings", 131072},
                          {"intermediate_size", 9216}, {"hidden_size", 2304},      {"num_hidden_layers", 26}};
  if (config.is_object()) complete_config.update(config);
  const HfFields fields(config.is_object() ? complete_config : config, origin);
  ModelSpec spec = read_hf_base(fields, "gemma3", "Gemma3ForCausalLM", {.tied = true, .head_dim = 256});
  if (fields.has("hidden_activation") && spec.activation != Activation::gelu_tanh)
    fields.unsupported("hidden_activation", "is not gelu_pytorch_tanh");
  complete(spec);
  read_ropes(fields, spec);
  spec.attention_scale = 1 / std::sqrt(fields.number_or("query_pre_attn_scalar", 256));
  spec.attention_softcap = fields.number_or("attn_logit_softcapping", 0);
  spec.final_softcap = fields.number_or("final_logit_softcapping", 0);
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  const std::int64_t pattern = fields.integer_or("sliding_window_pattern", 6);
  if (pattern < 1) throw FormatError(cat(origin, ": sliding_window_pattern is ", pattern, ", must be at least 1"));
  const auto sliding = read_hf_sliding(fields, spec.layers.size(), [&](std::int64_t i) { return (i + 1) % pattern != 0; });
  const std::int64_t window = fields.integer_or("sliding_window", 0);
  for (std::size_t i = 0; i < spec.layers.size(); ++i)
    if (sliding[i]) set_local(spec, i, window);
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "gemma3", "Gemma3ForCausalLM");
  complete(spec);
  const bool is_27b = spec.layers.size() == 62;
  spec.attention_scale = 1 / std::sqrt(static_cast<double>(is_27b ? spec.hidden / spec.heads : spec.head_dim));
  spec.final_softcap = gguf_number_or(file, "final_logit_softcapping", 0);
  spec.rope_local.theta = gguf_number_or(file, "rope.freq_base_swa", 10000);
  spec.rope_local.dims = spec.rope.dims;
  const std::int64_t window = file.integer_or(gguf_key(file, "attention.sliding_window"), 0);
  for (std::size_t i = 0; i < spec.layers.size(); ++i)
    if (window > 0 && (i + 1) % 6 != 0) set_local(spec, i, window);
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "gemma3_text");
  config["hidden_activation"] = "gelu_pytorch_tanh";
  config["query_pre_attn_scalar"] = std::llround(1 / (spec.attention_scale * spec.attention_scale));
  config["final_logit_softcapping"] = spec.final_softcap > 0 ? Json(spec.final_softcap) : Json();
  config["attn_logit_softcapping"] = nullptr;
  config["rope_local_base_freq"] = spec.rope_local.theta;
  config["layer_types"] = Json::array();
  for (const LayerSpec& layer : spec.layers) {
    config["layer_types"].push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    if (layer.window > 0) config["sliding_window"] = layer.window;
  }
  return config;
}

}  // namespace

extern const Family gemma3{"gemma3", {"Gemma3ForCausalLM"}, {"gemma3"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
