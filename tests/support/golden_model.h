// The golden models of tests/golden/models (scripts/make_golden_models.py): their packed documents, what transformers and PEFT
// answered, and their adapters.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "model/decoder.h"
#include "tests/support/golden_paths.h"

namespace graft::testing {

inline at::Tensor golden_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafeTensor& info = file.tensors().at(name);
  const std::map<DType, at::ScalarType> types = {
      {DType::f32, at::kFloat}, {DType::f64, at::kDouble}, {DType::i64, at::kLong}, {DType::i32, at::kInt}};
  at::Tensor tensor = at::empty(info.shape, at::TensorOptions(types.at(info.dtype)));
  const auto bytes = file.data(info);
  if (bytes.size() != tensor.nbytes()) throw FormatError("golden tensor " + name);
  std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

// Documents one behind the other, positions restarting in each.
inline model::Packed packed(const at::Tensor& tokens, std::vector<std::int32_t> starts) {
  std::vector<at::Tensor> positions;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) positions.push_back(at::arange(starts[i + 1] - starts[i]));
  return {tokens, at::cat(positions), std::move(starts)};
}

using LowRanks = std::vector<std::unique_ptr<kernels::LowRank>>;

inline void zero_gradients(const LowRanks& adapters) {
  for (const auto& low_rank : adapters) {
    low_rank->grad_a.zero_();
    low_rank->grad_b.zero_();
  }
}

struct Golden {
  explicit Golden(const std::string& name)
      : directory(golden_model(name)),
        file(directory / "golden.safetensors"),
        adapter(directory / "adapter/adapter_model.safetensors") {
    const Json config = read_json(directory / "adapter/adapter_config.json");
    const double alpha = config["lora_alpha"], rank = config["r"];
    scale = alpha / (config["use_rslora"] ? std::sqrt(rank) : rank);
    const auto starts = tensor("starts").to(at::kInt);
    batch = packed(tensor("tokens").to(at::kLong), {starts.const_data_ptr<int>(), starts.const_data_ptr<int>() + starts.numel()});
    labels = tensor("labels").to(at::kLong);
  }
  at::Tensor tensor(const std::string& name) const { return golden_tensor(file, name); }
  std::unique_ptr<model::Decoder> load(at::ScalarType storage = at::kFloat, at::ScalarType compute = at::kFloat) const {
    return model::Decoder::load(*model::open_weights(directory), storage, compute);
  }

  // Adapters of every module in PEFT's file, attached.
  LowRanks attach(model::Decoder& decoder) const {
    LowRanks adapters;
    for (model::Linear* linear : decoder.linears()) {
      const std::string prefix = "base_model.model." + linear->name;
      if (adapter.tensors().count(prefix + ".lora_A.weight") == 0) continue;
      auto& low_rank = adapters.emplace_back(std::make_unique<kernels::LowRank>());
      low_rank->a = golden_tensor(adapter, prefix + ".lora_A.weight");
      low_rank->b = golden_tensor(adapter, prefix + ".lora_B.weight");
      low_rank->grad_a = at::zeros_like(low_rank->a);
      low_rank->grad_b = at::zeros_like(low_rank->b);
      low_rank->scale = scale;
      linear->adapter = low_rank.get();
    }
    if (2 * adapters.size() != adapter.tensors().size()) throw FormatError("an adapter of the file has no linear");
    return adapters;
  }

  std::filesystem::path directory;
  SafetensorsFile file, adapter;
  double scale;
  model::Packed batch;
  at::Tensor labels;
};

}  // namespace graft::testing
