#include "export/pieces.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <optional>

namespace graft::exports {
namespace {

constexpr std::int64_t kPieceElements = 1 << 19, kPiecesBetweenTrims = 512;

// glibc before 2.38 does not find aligned blocks again that it has freed, and the heap grows with all that has gone through it:
// by 1 GB for 16 GB of weights. Now and then what is free goes back; at every tensor the pages would cost more than the work.
void give_back(std::int64_t pieces) {
  static std::atomic<std::int64_t> since = 0;
  if ((since += pieces) < kPiecesBetweenTrims) return;
  since = 0;
  ::malloc_trim(0);
}

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
  give_back(count);
}

}  // namespace graft::exports
