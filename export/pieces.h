// Models are exported in pieces of rows, each made, written or compared by one thread from start to end, so that threads never
// wait for each other, memory does not grow with the model, and a piece stays in a processor's cache.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/tensors.h"

namespace graft::exports {

struct RowRange {
  std::int64_t begin, end;
};
inline constexpr std::int64_t kRowStep = 128;  // what blocks of rows and words of codes divide
// Of some 2 MB in f32, from multiples of `step` on; a vector is one.
std::vector<RowRange> pieces_of(const model::TensorSpec& tensor, std::int64_t step = kRowStep);

// Calls each(0), ..., each(count - 1), a thread taking the next when it is done; LibTorch is serial inside. Throws what one of
// them threw.
void on_all_threads(std::int64_t count, const std::function<void(std::int64_t)>& each);

}  // namespace graft::exports
