#include "kernels/nf4/nf4.h"

#include <algorithm>
#include <cmath>

namespace graft::cuda {

std::array<float, 256> nf4_scale_map() {
  std::array<float, 256> map{};  // 2 (1 + 2 + ... + 64) + 2 values
  std::size_t next = 0;
  for (int e = 0; e < 7; ++e) {
    const int parts = 1 << e;
    for (int i = 0; i < parts; ++i) {
      const double middle = 0.1 + 0.9 * (i + 0.5) / parts, value = middle * std::pow(10.0, e - 6);
      map[next++] = static_cast<float>(value);
      map[next++] = static_cast<float>(-value);
    }
  }
  map[next++] = 0;
  map[next++] = 1;
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace graft::cuda
