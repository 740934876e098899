#include <immintrin.h>

#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

struct Set {
  using Element = float;
  using Vector = __m512;
  static constexpr int kDepth = 1, kWidth = 16;
  static Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Vector x) { _mm512_storeu_ps(to, x); }
  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector load_b(const float* from) { return _mm512_loadu_ps(from); }
  static Vector broadcast_a(const float* from) { return _mm512_set1_ps(*from); }
  static Vector multiply_add(Vector a, Vector b, Vector sum) { return _mm512_fmadd_ps(a, b, sum); }
};

}  // namespace

void multiply_avx512(const TileArguments<float>& arguments) { rows_of<Set, 6, 4>(arguments, 0); }

}  // namespace graft::kernels::cpu
