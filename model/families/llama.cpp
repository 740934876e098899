// Llama 2 and 3.x, SmolLM2 (source: transformers models/llama; llama.cpp conversion/llama.py). GGUF files of Mistral and Mixtral
// say "llama" too: Mistral's differ in nothing that GGUF records, Mixtral's have experts.
#include "model/family.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

ModelSpec from_hf(const Json& config, const std::string& origin) {
  const HfFields fields(config, origin);
  ModelSpec spec = read_hf_base(fields, "llama", "LlamaForCausalLM", {});
  spec.qkv_bias = spec.o_bias = fields.boolean_or("attention_bias", false);
  spec.mlp_bias = fields.boolean_or("mlp_bias", false);
  fields.finish();
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  const bool experts = file.integer_or("llama.expert_count", 0) > 0;
  ModelSpec spec =
      experts ? read_gguf_base(file, "mixtral", "MixtralForCausalLM") : read_gguf_base(file, "llama", "LlamaForCausalLM");
  if (experts) {
    read_gguf_experts(file, spec);
    spec.moe.block = "block_sparse_moe";
    spec.moe.gate = "w1";
    spec.moe.up = "w3";
    spec.moe.down = "w2";
  }
  spec.qkv_bias = file.find("blk.0.attn_q.bias") != nullptr;
  spec.o_bias = file.find("blk.0.attn_output.bias") != nullptr;
  spec.mlp_bias = file.find("blk.0.ffn_gate.bias") != nullptr;
  return spec;
}

Json to_hf(const ModelSpec& spec) {
  Json config = write_hf_base(spec, "llama");
  config["attention_bias"] = spec.qkv_bias;
  config["mlp_bias"] = spec.mlp_bias;
  return config;
}

}  // namespace

extern const Family llama{"llama", {"LlamaForCausalLM", "LLaMAForCausalLM"}, {"llama"}, from_hf, from_gguf, to_hf, true};

}  // namespace graft::model
