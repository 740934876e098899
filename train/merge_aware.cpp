#include "train/merge_aware.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/stop.h"

namespace graft::train {
namespace {

constexpr std::int64_t kPieceElements = 1 << 22,
                       kAlignment = 128;  // what is rounded at a time; rows that a piece is a multiple of

std::int64_t rows_of_piece(std::int64_t columns) {
  return std::max<std::int64_t>(1, kPieceElements / columns / kAlignment) * kAlignment;
}

}  // namespace

std::int64_t steps_before_merge_aware(const TrainConfig& config, std::int64_t steps) {
  return steps - std::max<std::int64_t>(1, std::llround(config.merge_aware.share * static_cast<double>(steps)));
}

// A piece as stored, in f32, merged and some five times more while it is rounded.
std::uint64_t merge_aware_bytes(const model::ModelSpec& spec) {
  std::int64_t largest = 0;
  for (const model::TensorSpec& tensor : model::tensors_of(spec))
    if (tensor.shape.size() == 2)
      largest = std::max(largest, std::min(tensor.shape[0], rows_of_piece(tensor.shape[1])) * tensor.shape[1]);
  return static_cast<std::uint64_t>(largest * 30);
}

MergeAware::MergeAware(Served served, std::int64_t first, const model::WeightSource& base, at::ScalarType storage,
                       lora::AdapterSet& adapters, model::Decoder& decoder)
    : served_(std::move(served)), first_(first), base_(base), storage_(storage), adapters_(adapters) {
  std::map<std::string, at::Tensor> weights = {{"model.embed_tokens.weight", decoder.embedding()}};
  for (const model::Linear* linear : decoder.linears()) weights[linear->name + ".weight"] = linear->weight;
  for (const model::TensorSpec& tensor : model::tensors_of(base.spec())) {
    const auto weight = weights.find(tensor.name);
    if (weight == weights.end()) continue;  // norms, biases, routers: formats do not put them on grids
    const std::string module = model::module_of(tensor.name);
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
  const std::int64_t rows = matrix.weight.size(0), step = rows_of_piece(matrix.weight.size(1));
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t end = std::min(begin + step, rows);
    const at::Tensor weight = base_.load_rows(matrix.tensor.name, begin, end, storage_).to(at::kFloat).contiguous();
    const at::Tensor merged = lora::merged_rows(adapters_, matrix.module, begin, weight);
    at::Tensor rounded = served_(matrix.tensor, begin, merged);
    if (!matrix.module.empty()) rounded = rounded.sub(merged).add_(weight);
    matrix.weight.narrow(0, begin, end - begin).copy_(rounded);
  }
}

}  // namespace graft::train
