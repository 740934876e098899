// The merged model in bf16 as a source of weights, without a file: what the format `hf` holds (export/formats/hf.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "export/merge.h"

namespace graft::exports {

class MergedWeights final : public model::WeightSource {
 public:
  // As MergedModel; base and adapter must outlive it.
  MergedWeights(const model::WeightSource& base, const lora::AdapterSet& adapter, at::ScalarType storage);

  const model::ModelSpec& spec() const override { return merged_.spec(); }
  const std::vector<model::WeightInfo>& weights() const override { return weights_; }
  bool has(const std::string& name) const override { return merged_.find(name) != nullptr; }
  at::Tensor load(const std::string& name, at::ScalarType type) const override;
  const std::filesystem::path& path() const override { return merged_.base().path(); }
  bool is_gguf() const override { return merged_.base().is_gguf(); }
  const Json& hf_config() const override { return merged_.base().hf_config(); }
  const std::string& identity() const override { return identity_; }  // of base, adapter and storage

 private:
  MergedModel merged_;
  std::vector<model::WeightInfo> weights_;
  std::string identity_;
};

}  // namespace graft::exports
