// Gemma 1: norms with gain 1 + w, GeGLU, embeddings scaled by sqrt(hidden) (source: transformers models/gemma; llama.cpp
// conversion/gemma.py). The head is always the embedding.
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
  spec.activation = Activation::gelu_tanh;
  spec.embed_scale = std::sqrt(static_cast<double>(spec.hidden));
}

ModelSpec from_hf(const Json& config, const std::string& origin) {
  // The first files say "gelu" and mean the tanh approximation, as transformers reads them.
  Json copy = config;
  if (copy.is_object() && copy.value("hidden_act", Json()) == "gelu") copy["hidden_act"] = "gelu_pytorch_tanh";
  if (copy.is_object()) copy.erase("hidden_activation");
  const HfFields fields(copy, origin);
  ModelSpec spec = read_hf_base(fields, "gemma", "GemmaForCausalLM", {.tied = true, .head_dim = 256});
  if (spec.activation != Activation::gelu_tanh && fields.has("hidden_act"))
    fields.unsupported("hidden_act", "is not gelu_pytorch_tanh");
  complete(spec);
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = read_gguf_base(file, "gemma", "GemmaForCausalLM");
  complete(spec);
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "gemma");
  config["hidden_activation"] = "gelu_pytorch_tanh";
  return config;
}

}  // namespace

extern const Family gemma{"gemma", {"GemmaForCausalLM"}, {"gemma"}, from_hf, from_gguf, to_hf};

}  // namespace graft::model
