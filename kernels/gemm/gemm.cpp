#include "kernels/gemm/gemm.h"

#include <bit>
#include <vector>

namespace graft::cuda {
namespace {

float load(const void* data, std::int64_t i, DType type) {
  if (type == DType::f32) return static_cast<const float*>(data)[i];
  return std::bit_cast<float>(std::uint32_t{static_cast<const std::uint16_t*>(data)[i]} << 16);
}

void store(void* data, std::int64_t i, DType type, float x) {
  if (type == DType::f32) {
    static_cast<float*>(data)[i] = x;
    return;
  }
  const auto bits = std::bit_cast<std::uint32_t>(x);  // rounded to nearest even
  static_cast<std::uint16_t*>(data)[i] =
      static_cast<std::uint16_t>(x != x ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// op(X) (rows, columns), its columns one after the other.
std::vector<float> columns_of(const GemmOperand& x, std::int64_t rows, std::int64_t columns, DType type) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::int64_t j = 0; j < columns; ++j)
    for (std::int64_t i = 0; i < rows; ++i)
      values[static_cast<std::size_t>(j * rows + i)] = load(x.data, x.transposed ? j + i * x.ld : i + j * x.ld, type);
  return values;
}

}  // namespace

int gemm_cpu(const Gemm& g) {
  if (gemm_fault(g) != nullptr) return 1;
  const std::vector<float> a = columns_of(g.a, g.m, g.k, g.type), b = columns_of(g.b, g.k, g.n, g.type);
  std::vector<float> sums(static_cast<std::size_t>(g.m));
  for (std::int64_t j = 0; j < g.n; ++j) {
    sums.assign(sums.size(), 0.f);
    for (std::int64_t p = 0; p < g.k; ++p) {
      const float factor = b[static_cast<std::size_t>(j * g.k + p)];
      const float* column = a.data() + p * g.m;
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += factor * column[i];
    }
    for (std::int64_t i = 0; i < g.m; ++i) {
      const std::int64_t at = i + j * g.ldc;
      const float before = g.beta != 0 ? g.beta * load(g.c, at, g.c_type) : 0;
      store(g.c, at, g.c_type, g.alpha * sums[static_cast<std::size_t>(i)] + before);
    }
  }
  return 0;
}

}  // namespace graft::cuda
