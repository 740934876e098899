#include "export/pieces.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <optional>

namespace graft::exports {
namespace {

constexpr std::int64_t kPieceElements = 1 << 19;

}  // namespace

std::vector<RowRange> pieces_of(const model::TensorSpec& tensor, std::int64_t step) {
  const std::int64_t count = tensor.shape[0];
  const std::int64_t rows =
      tensor.shape.size() > 1 ? std::max<std::int64_t>(1, kPieceElements / (tensor.shape.back() * step)) * step : count;
  std::vector<RowRange> pieces;
  for (std::int64_t begin = 0; begin < count; begin += rows) pieces.push_back({begin, std::min(count, begin + rows)});
  return pieces;
}

void on_all_threads(std::int64_t count, const std::function<void(std::int64_t)>& each) {
  const bool inference = c10::InferenceMode::is_enabled();  // threads do not inherit it
  std::atomic<std::int64_t> next = 0;
  at::parallel_for(0, std::min<std::int64_t>(count, at::get_num_threads()), 1, [&](std::int64_t, std::int64_t) {
    std::optional<c10::InferenceMode> mode;
    if (inference) mode.emplace();
    try {
      for (std::int64_t i = next++; i < count; i = next++) each(i);
    } catch (...) {
      next = count;
      throw;
    }
  });
}

}  // namespace graft::exports
