#include "train/merge_aware.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/stop.h"

namespace graft::train {
namespace {

constexpr std::int64_t kRows = 128;  // that one thread rounds at a time
constexpr std::string_view kSuffix = ".weight";

}  // namespace

std::int64_t steps_before_merge_aware(const TrainConfig& config, std::int64_t steps) {
  return steps - std::max<std::int64_t>(1, std::llround(config.merge_aware.share * static_cast<double>(steps)));
}

// As stored, in f32 and merged; per thread some six arrays of kRows rows in f32.
std::uint64_t merge_aware_bytes(const model::ModelSpec& spec) {
  std::int64_t largest = 0, columns = 0;
  for (const model::TensorSpec& tensor : model::tensors_of(spec)) {
    if (tensor.shape.size() != 2) continue;
    largest = std::max(largest, tensor.shape[0] * tensor.shape[1]);
    columns = std::max(columns, tensor.shape[1]);
  }
  return static_cast<std::uint64_t>(largest * 10 + at::get_num_threads() * kRows * columns * 24);
}

MergeAware::MergeAware(Served served, std::int64_t first, const model::WeightSource& base, at::ScalarType storage,
                       lora::AdapterSet& adapters, model::Decoder& decoder)
    : served_(std::move(served)), first_(first), base_(base), storage_(storage), adapters_(adapters) {
  std::map<std::string, at::Tensor> weights = {{"model.embed_tokens.weight", decoder.embedding()}};
  for (const model::Linear* linear : decoder.linears()) weights[cat(linear->name, kSuffix)] = linear->weight;
  for (const model::TensorSpec& tensor : model::tensors_of(base.spec())) {
    const auto weight = weights.find(tensor.name);
    if (weight == weights.end()) continue;  // norms, biases, routers: formats do not put them on grids
    const std::string module = tensor.name.substr(0, tensor.name.size() - kSuffix.size());
    matrices_.push_back({tensor, adapters.find(module) != nullptr ? module : "", weight->second});
  }
}

void MergeAware::follow(std::int64_t step) {
  if (!begun(step) || step == rounded_for_) return;
  for (const auto& adapter : adapters_.adapters) adapter->low_rank.dropout = 0;
  for (const Matrix& matrix : matrices_) {
    throw_if_stopped();
    if (rounded_for_ >= 0 && matrix.module.empty()) continue;
    try {
      round(matrix);
    } catch (const DataError& error) {
      throw DataError(cat("merge-aware training, tensor ", matrix.tensor.name, ": ", error.what()));
    }
  }
  rounded_for_ = step;
}

void MergeAware::round(const Matrix& matrix) const {
  const at::Tensor weight = base_.load(matrix.tensor.name, storage_).to(at::kFloat).contiguous();
  const at::Tensor merged = lora::merged_weight(adapters_, matrix.module, weight);
  const std::int64_t rows = weight.size(0);
  const bool inference = c10::InferenceMode::is_enabled();
  at::parallel_for(0, (rows + kRows - 1) / kRows, 1, [&](std::int64_t begin, std::int64_t end) {
    const c10::InferenceMode mode(inference);  // workers do not inherit it
    for (std::int64_t row = begin * kRows; row < std::min(end * kRows, rows); row += kRows) {
      const std::int64_t count = std::min(kRows, rows - row);
      const at::Tensor part = merged.narrow(0, row, count);
      at::Tensor rounded = served_(matrix.tensor, part);
      if (!matrix.module.empty()) rounded = rounded.sub(part).add_(weight.narrow(0, row, count));
      matrix.weight.narrow(0, row, count).copy_(rounded);
    }
  });
}

}  // namespace graft::train
