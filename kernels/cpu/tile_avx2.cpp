#include <immintrin.h>

#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

struct Set {
  using Element = float;
  using Vector = __m256;
  static constexpr int kDepth = 1, kWidth = 8;
  static Vector load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Vector x) { _mm256_storeu_ps(to, x); }
  static Vector zero() { return _mm256_setzero_ps(); }
  static Vector load_b(const float* from) { return _mm256_loadu_ps(from); }
  static Vector broadcast_a(const float* from) { return _mm256_broadcast_ss(from); }
  static Vector multiply_add(Vector a, Vector b, Vector sum) { return _mm256_fmadd_ps(a, b, sum); }
  static Vector times(Vector x, float factor) { return _mm256_mul_ps(x, _mm256_set1_ps(factor)); }
  static Vector plus(Vector x, Vector y) { return _mm256_add_ps(x, y); }
  static Vector widen(const float* from, std::int64_t n) {
    float values[kWidth] = {};
    std::memcpy(values, from, static_cast<std::size_t>(n) * sizeof(float));
    return load(values);
  }
  static void narrow(float* to, std::int64_t n, Vector x) {
    float values[kWidth];
    store(values, x);
    std::memcpy(to, values, static_cast<std::size_t>(n) * sizeof(float));
  }
};

}  // namespace

// Six rows of two vectors: 12 of the 16 registers hold sums.
void TileAvx2::multiply(const TileArguments<float>& arguments) { rows_of<Set, 6, 2>(arguments); }
void TileAvx2::finish(const FinishArguments<float>& arguments) { rows_of<Set, 6, 2>(arguments); }

}  // namespace graft::kernels::cpu
