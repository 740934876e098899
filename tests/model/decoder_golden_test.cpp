// The decoder against transformers and PEFT: tiny random models of every family (scripts/make_golden_models.py), in f32.
#include <ATen/ATen.h>

#include <cstring>
#include <filesystem>

#include "core/json.h"
#include "core/safetensors.h"
#include "model/decoder.h"
#include "tests/support/catch.h"

namespace graft::model {
namespace {

namespace fs = std::filesystem;

at::Tensor read(const SafetensorsFile& file, const std::string& name) {
  const SafeTensor& info = file.tensors().at(name);
  const std::map<DType, at::ScalarType> types = {
      {DType::f32, at::kFloat}, {DType::f64, at::kDouble}, {DType::i64, at::kLong}, {DType::i32, at::kInt}};
  at::Tensor tensor = at::empty(info.shape, at::TensorOptions(types.at(info.dtype)));
  const auto bytes = file.data(info);
  REQUIRE(bytes.size() == tensor.nbytes());
  std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

// Largest absolute difference over the largest value; NaN anywhere is infinity.
double relative_error(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.sizes() == want.sizes());
  const auto difference = (got.to(at::kDouble) - want.to(at::kDouble)).abs();
  if (difference.isnan().any().item<bool>()) return std::numeric_limits<double>::infinity();
  return difference.max().item<double>() / want.abs().max().to(at::kDouble).item<double>();
}

struct Golden {
  explicit Golden(const fs::path& directory) : file(directory / "golden.safetensors"), adapter(directory / "adapter/adapter_model.safetensors") {
    const Json config = read_json(directory / "adapter/adapter_config.json");
    const double alpha = config["lora_alpha"], rank = config["r"];
    scale = alpha / (config["use_rslora"] ? std::sqrt(rank) : rank);
    batch.tokens = read(file, "tokens").to(at::kLong);
    const auto starts = read(file, "starts").to(at::kInt);
    batch.starts.assign(starts.const_data_ptr<int>(), starts.const_data_ptr<int>() + starts.numel());
    std::vector<at::Tensor> positions;
    for (std::size_t i = 0; i + 1 < batch.starts.size(); ++i) positions.push_back(at::arange(batch.starts[i + 1] - batch.starts[i]));
    batch.positions = at::cat(positions);
    labels = read(file, "labels").to(at::kLong);
  }

  // Adapters of every module in the file, attached.
  std::vector<std::unique_ptr<kernels::LowRank>> attach(Decoder& decoder) const {
    std::vector<std::unique_ptr<kernels::LowRank>> adapters;
    std::size_t used = 0;
    for (Linear* linear : decoder.linears()) {
      const std::string prefix = "base_model.model." + linear->name;
      if (adapter.tensors().count(prefix + ".lora_A.weight") == 0) continue;
      auto& low_rank = adapters.emplace_back(std::make_unique<kernels::LowRank>());
      low_rank->a = read(adapter, prefix + ".lora_A.weight");
      low_rank->b = read(adapter, prefix + ".lora_B.weight");
      low_rank->grad_a = at::zeros_like(low_rank->a);
      low_rank->grad_b = at::zeros_like(low_rank->b);
      low_rank->scale = scale;
      linear->adapter = low_rank.get();
      used += 2;
    }
    CHECK(used == adapter.tensors().size());
    return adapters;
  }

  SafetensorsFile file, adapter;
  double scale;
  Packed batch;
  at::Tensor labels;
};

}  // namespace

TEST_CASE("logits, losses and adapter gradients equal transformers' and PEFT's for every family", "[decoder][golden]") {
  std::size_t models = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(GRAFT_SOURCE_DIR) / "tests/golden/models")) {
    if (!entry.is_directory()) continue;
    ++models;
    INFO(entry.path().filename().string());
    const Golden golden(entry.path());
    const auto decoder = Decoder::load(*open_weights(entry.path()), at::kFloat, at::kFloat);
    CHECK(relative_error(decoder->logits(golden.batch), read(golden.file, "logits")) < 1e-4);
    const double loss = decoder->loss(golden.batch, golden.labels, false).sum;
    CHECK(loss == Approx(read(golden.file, "loss_sum").item<double>()).epsilon(1e-5));

    const auto adapters = golden.attach(*decoder);
    CHECK(relative_error(decoder->logits(golden.batch), read(golden.file, "adapter_logits")) < 1e-4);
    const double adapter_loss = read(golden.file, "adapter_loss_sum").item<double>();
    CHECK(decoder->loss(golden.batch, golden.labels, false).sum == Approx(adapter_loss).epsilon(1e-5));
    const double trained = golden.labels.ne(-100).sum().item<double>();
    for (const Recompute recompute : {Recompute::none, Recompute::layers}) {
      for (const auto& low_rank : adapters) {
        low_rank->grad_a.zero_();
        low_rank->grad_b.zero_();
      }
      CHECK(decoder->train_step(golden.batch, golden.labels, 1 / trained, recompute, 0).sum == Approx(adapter_loss).epsilon(1e-5));
      for (Linear* linear : decoder->linears()) {
        if (linear->adapter == nullptr) continue;
        const std::string prefix = "grad.base_model.model." + linear->name;
        INFO(prefix);
        CHECK(relative_error(linear->adapter->grad_a, read(golden.file, prefix + ".lora_A.weight")) < 1e-4);
        CHECK(relative_error(linear->adapter->grad_b, read(golden.file, prefix + ".lora_B.weight")) < 1e-4);
      }
    }
    decoder->set_adapters_enabled(false);
    CHECK(decoder->loss(golden.batch, golden.labels, false).sum == loss);
  }
  CHECK(models >= 17);
}

}  // namespace graft::model
