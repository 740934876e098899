// SmolLM3: Llama with layers that have no position embedding (source: transformers models/smollm3; llama.cpp
// src/models/smollm3.cpp).
#include "core/error.h"
#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "smollm3", "SmolLM3ForCausalLM", {.theta = 2e6, .tied = true});
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  spec.mlp_bias = fields.boolean_or("mlp_bias", false);

  const std::int64_t interval = fields.integer_or("no_rope_layer_interval", 4);
  if (interval < 1) throw FormatError(cat(origin, ": no_rope_layer_interval is ", interval, ", must be at least 1"));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].rope = (static_cast<std::int64_t>(i) + 1) % interval != 0;
  if (fields.has("no_rope_layers")) {
    const auto flags = fields.integers("no_rope_layers");  // 1: this layer has rope
    if (flags.size() < spec.layers.size())
      throw FormatError(
          cat(origin, ": no_rope_layers has ", flags.size(), " entries, num_hidden_layers is ", spec.layers.size()));
    for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].rope = flags[i] != 0;
  }
  const std::int64_t window = fields.boolean_or("use_sliding_window", false) ? fields.integer_or("sliding_window", 0) : 0;
  const auto sliding =
      read_hf_sliding(fields, spec.layers.size(), [&](std::int64_t i) { return !spec.layers[static_cast<std::size_t>(i)].rope; });
  for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].window = sliding[i] ? window : 0;
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "smollm3", "SmolLM3ForCausalLM");
  for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].rope = (i + 1) % 4 != 0;  // not recorded in the file
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "smollm3");
  config["no_rope_layers"] = Json::array();
  for (const LayerSpec& layer : spec.layers) config["no_rope_layers"].push_back(layer.rope ? 1 : 0);
  config["attention_bias"] = spec.qkv_bias;
  config["mlp_bias"] = spec.mlp_bias;
  config["use_sliding_window"] = false;
  config["pad_token_id"] = nullptr;
  return config;
}

}  // namespace

extern const Family smollm3{"smollm3", {"SmolLM3ForCausalLM"}, {"smollm3"}, from_hf, from_gguf, to_hf, true};

}  // namespace graft::model
