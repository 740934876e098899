#include <immintrin.h>

#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

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
};

}  // namespace

// Six rows of four vectors: 24 sums, 4 vectors of B and one of A fill the 32 registers.
void multiply_avx512_bf16(const TileArguments<Bf16Bits>& arguments) { rows_of<Set, 6, 4>(arguments, 0); }

}  // namespace graft::kernels::cpu
