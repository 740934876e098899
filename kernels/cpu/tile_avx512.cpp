#include <immintrin.h>

#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

inline __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

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
  static Vector times(Vector x, float factor) { return _mm512_mul_ps(x, _mm512_set1_ps(factor)); }
  static Vector plus(Vector x, Vector y) { return _mm512_add_ps(x, y); }
  static Vector widen(const float* from, std::int64_t n) { return _mm512_maskz_loadu_ps(first(n), from); }
  static void narrow(float* to, std::int64_t n, Vector x) { _mm512_mask_storeu_ps(to, first(n), x); }
};

}  // namespace

void TileAvx512::multiply(const TileArguments<float>& arguments) { rows_of<Set, 6, 4>(arguments); }
void TileAvx512::finish(const FinishArguments<float>& arguments) { rows_of<Set, 6, 4>(arguments); }

}  // namespace graft::kernels::cpu
