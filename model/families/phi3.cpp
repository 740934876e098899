// Phi-3 and Phi-4 mini: fused qkv and gate_up, longrope (source: transformers models/phi3; llama.cpp conversion/phi.py).
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

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "phi3");
  config["original_max_position_embeddings"] = spec.rope.original_context > 0 ? spec.rope.original_context : spec.context;
  config["sliding_window"] = spec.layers[0].window > 0 ? Json(spec.layers[0].window) : Json();
  return config;
}

}  // namespace

extern const Family phi3{"phi3", {"Phi3ForCausalLM"}, {"phi3"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
