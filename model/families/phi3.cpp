// Phi-3 and, as a model, Phi-4 mini, whose tokenizer's pattern (o200k) graft does not have: fused qkv and gate_up, longrope
// (source: transformers models/phi3; llama.cpp conversion/phi.py).
#include <cmath>

#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "phi3", "Phi3ForCausalLM", {.eps = 1e-5});
  spec.fused_qkv = spec.fused_gate_up = true;
  for (LayerSpec& layer : spec.layers) layer.window = fields.integer_or("sliding_window", 0);
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "phi3", "Phi3ForCausalLM");
  spec.fused_qkv = spec.fused_gate_up = true;
  for (LayerSpec& layer : spec.layers) layer.window = file.integer_or("phi3.attention.sliding_window", 0);
  return spec;
}

// Phi3Config of transformers 4 takes these three keys and no other. It finds the attention factor by itself; one of another value
// needs the keys of transformers 5, which 4 then refuses.
bool has_automatic_factor(const RopeSpec& rope) {
  const double automatic = longrope_attention_factor(rope.factor, rope.original_context);
  return std::abs(rope.attention_factor - automatic) <= 1e-6 * automatic;  // GGUF has it in f32
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "phi3");
  if (spec.rope.scaling == RopeScaling::longrope && has_automatic_factor(spec.rope))
    config["rope_scaling"] = {
        {"type", "longrope"}, {"short_factor", spec.rope.short_factors}, {"long_factor", spec.rope.long_factors}};
  config["original_max_position_embeddings"] = spec.rope.original_context > 0 ? spec.rope.original_context : spec.context;
  config["sliding_window"] = spec.layers[0].window > 0 ? Json(spec.layers[0].window) : Json();
  return config;
}

}  // namespace

extern const Family phi3{"phi3", {"Phi3ForCausalLM"}, {"phi3"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
