// A WeightSource in memory: the weights of a ModelSpec drawn from a seed, under Hugging Face names. For tests that need a model
// and no files.
//
//   TinyModel source(tiny_spec(), 7);
//   auto decoder = model::Decoder::load(source, at::kFloat, at::kFloat);
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <map>

#include "core/error.h"
#include "model/tensors.h"
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
    for (const model::TensorSpec& tensor : model::tensors_of(spec_)) {
      const auto fan_in = static_cast<double>(tensor.shape.back());
      if (tensor.name == "model.embed_tokens.weight")
        add(tensor, 1 / spec_.embed_scale, 0);
      else if (tensor.role == model::TensorRole::norm)
        add(tensor, 0.2, 1 - spec_.norm_gain_offset);
      else if (tensor.shape.size() == 1)
        add(tensor, 0.1, 0);  // a bias
      else
        add(tensor, 1 / std::sqrt(fan_in), 0);
    }
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
  void add(const model::TensorSpec& tensor, double deviation, double mean) {
    tensors_[tensor.name] = at::randn(tensor.shape, generator_, at::kFloat).mul_(deviation).add_(mean);
    infos_.push_back({tensor.name, tensor.shape, "F32"});
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
