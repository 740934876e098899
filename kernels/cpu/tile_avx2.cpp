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
};

}  // namespace

// Six rows of two vectors: 12 of the 16 registers hold sums.
void multiply_avx2(const TileArguments<float>& arguments) { rows_of<Set, 6, 2>(arguments, 0); }

}  // namespace graft::kernels::cpu
