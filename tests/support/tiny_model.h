// A WeightSource in memory: the weights of a ModelSpec drawn from a seed, under Hugging Face names. For tests that need a model
// and no files.
//
//   TinyModel source(tiny_spec(), 7);
//   auto decoder = model::Decoder::load(source, at::kFloat, at::kFloat);
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <map>

#include "core/error.h"
#include "model/weights.h"

namespace graft::testing {

// Two Llama layers: 4 heads of 8 over 2 key/value heads, vocabulary 61.
inline model::ModelSpec tiny_spec() {
  model::ModelSpec spec;
  spec.family = "llama";
  spec.architecture = "LlamaForCausalLM";
  spec.vocab = 61;
  spec.hidden = 24;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_dim = 8;
  spec.ffn = 40;
  spec.context = 256;
  spec.rope.dims = spec.rope_local.dims = 8;
  spec.attention_scale = 1 / std::sqrt(8.0);
  spec.layers.resize(2);
  spec.bos = 1;
  spec.eos = 2;
  return spec;
}

class TinyModel final : public model::WeightSource {
 public:
  TinyModel(model::ModelSpec spec, std::uint64_t seed)
      : spec_(std::move(spec)), generator_(at::detail::createCPUGenerator(seed)) {
    const auto& s = spec_;
    add("model.embed_tokens.weight", {s.vocab, s.hidden}, 1 / s.embed_scale);
    for (std::size_t i = 0; i < s.layers.size(); ++i) add_layer("model.layers." + std::to_string(i) + ".");
    add_norm("model.norm", s.hidden);
    if (!s.tied_head) add("lm_head.weight", {s.vocab, s.hidden}, 0.3);
  }

  const model::ModelSpec& spec() const override { return spec_; }
  const std::vector<model::WeightInfo>& weights() const override { return infos_; }
  bool has(const std::string& name) const override { return tensors_.count(name) != 0; }
  at::Tensor load(const std::string& name, at::ScalarType type) const override {
    auto found = tensors_.find(name);
    if (found == tensors_.end()) throw FormatError("the tiny model has no tensor " + name);
    return found->second.to(type, /*non_blocking=*/false, /*copy=*/true);
  }
  const std::filesystem::path& path() const override { return path_; }
  bool is_gguf() const override { return false; }
  const Json& hf_config() const override { return config_; }
  const std::string& identity() const override { return identity_; }

 private:
  void add(const std::string& name, std::vector<std::int64_t> shape, double deviation, double mean = 0) {
    tensors_[name] = at::randn(shape, generator_, at::kFloat).mul_(deviation).add_(mean);
    infos_.push_back({name, shape, "F32"});
  }
  void add_norm(const std::string& name, std::int64_t size) { add(name + ".weight", {size}, 0.2, 1 - spec_.norm_gain_offset); }
  void add_linear(const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
    add(name + ".weight", {out, in}, 1 / std::sqrt(static_cast<double>(in)));
    if (bias) add(name + ".bias", {out}, 0.1);
  }
  void add_mlp(const std::string& prefix, std::int64_t ffn, const char* gate, const char* up, const char* down) {
    add_linear(prefix + gate, ffn, spec_.hidden, spec_.mlp_bias);
    add_linear(prefix + up, ffn, spec_.hidden, spec_.mlp_bias);
    add_linear(prefix + down, spec_.hidden, ffn, spec_.mlp_bias);
  }
  void add_layer(const std::string& prefix) {
    const auto& s = spec_;
    const std::int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    add_norm(prefix + "input_layernorm", s.hidden);
    if (s.fused_qkv) {
      add_linear(prefix + "self_attn.qkv_proj", q + 2 * kv, s.hidden, s.qkv_bias);
    } else {
      add_linear(prefix + "self_attn.q_proj", q, s.hidden, s.qkv_bias);
      add_linear(prefix + "self_attn.k_proj", kv, s.hidden, s.qkv_bias);
      add_linear(prefix + "self_attn.v_proj", kv, s.hidden, s.qkv_bias);
    }
    if (s.qk_norm) {
      add_norm(prefix + "self_attn.q_norm", s.head_dim);
      add_norm(prefix + "self_attn.k_norm", s.head_dim);
    }
    add_linear(prefix + "self_attn.o_proj", s.hidden, q, s.o_bias);
    add_norm(prefix + "post_attention_layernorm", s.hidden);
    if (s.post_norms) {
      add_norm(prefix + "pre_feedforward_layernorm", s.hidden);
      add_norm(prefix + "post_feedforward_layernorm", s.hidden);
    }
    if (s.moe.experts > 0) {
      const bool mixtral = s.family == "mixtral";
      const std::string block = prefix + (mixtral ? "block_sparse_moe." : "mlp.");
      add_linear(block + "gate", s.moe.experts, s.hidden, false);
      for (std::int64_t e = 0; e < s.moe.experts; ++e) {
        const std::string expert = block + "experts." + std::to_string(e) + ".";
        if (mixtral) add_mlp(expert, s.moe.ffn, "w1", "w3", "w2");
        else add_mlp(expert, s.moe.ffn, "gate_proj", "up_proj", "down_proj");
      }
    } else if (s.fused_gate_up) {
      add_linear(prefix + "mlp.gate_up_proj", 2 * s.ffn, s.hidden, s.mlp_bias);
      add_linear(prefix + "mlp.down_proj", s.hidden, s.ffn, s.mlp_bias);
    } else {
      add_mlp(prefix + "mlp.", s.ffn, "gate_proj", "up_proj", "down_proj");
    }
  }

  model::ModelSpec spec_;
  at::Generator generator_;
  std::map<std::string, at::Tensor> tensors_;
  std::vector<model::WeightInfo> infos_;
  std::filesystem::path path_ = "tiny";
  Json config_ = Json::object();
  std::string identity_ = "tiny";
};

}  // namespace graft::testing
