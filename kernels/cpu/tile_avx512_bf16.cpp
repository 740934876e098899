#include <immintrin.h>

#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

inline __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

struct Set {
  using Element = Bf16Bits;
  using Vector = __m512;
  static constexpr int kDepth = 2, kWidth = 16;
  static Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Vector x) { _mm512_storeu_ps(to, x); }
  static Vector zero() { return _mm512_setzero_ps(); }
  static __m512i load_b(const Bf16Bits* from) { return _mm512_loadu_si512(from); }
  static __m512i broadcast_a(const Bf16Bits* from) {
    std::int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static Vector multiply_add(__m512i a, __m512i b, Vector sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static Vector times(Vector x, float factor) { return _mm512_mul_ps(x, _mm512_set1_ps(factor)); }
  static Vector plus(Vector x, Vector y) { return _mm512_add_ps(x, y); }
  static Vector widen(const Bf16Bits* from, std::int64_t n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), from)), 16));
  }
  static void narrow(Bf16Bits* to, std::int64_t n, Vector x) {
    _mm256_mask_storeu_epi16(to, first(n), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
};

}  // namespace

// Six rows of four vectors: 24 sums, 4 vectors of B and one of A fill the 32 registers.
void TileAvx512Bf16::multiply(const TileArguments<Bf16Bits>& arguments) { rows_of<Set, 6, 4>(arguments); }
void TileAvx512Bf16::finish(const FinishArguments<Bf16Bits>& arguments) { rows_of<Set, 6, 4>(arguments); }

}  // namespace graft::kernels::cpu
