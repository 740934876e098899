#include "export/quantize/range.h"

#include <limits>

#include "core/simd.h"

namespace graft::exports {

GRAFT_SIMD float largest_magnitude(const float* x, std::int64_t n) {
  float found = 0;
  int outside = 0;
#pragma omp simd reduction(max : found) reduction(| : outside)
  for (std::int64_t i = 0; i < n; ++i) {
    const float size = std::fabs(x[i]);
    outside |= size <= std::numeric_limits<float>::max() ? 0 : 1;
    found = size > found ? size : found;
  }
  return outside == 0 ? found : std::numeric_limits<float>::infinity();
}

}  // namespace graft::exports
