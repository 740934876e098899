#include <immintrin.h>

#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

struct CodeSet {
  using Element = std::uint8_t;
  using Vector = std::int32_t __attribute__((vector_size(64)));  // g++ 12 keeps arrays of __m512i in memory
  static constexpr int kDepth = 4, kWidth = 16;
  static Vector start(const std::int32_t* shift) { return reinterpret_cast<Vector>(_mm512_loadu_si512(shift)); }
  static __m512i load_b(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static __m512i broadcast_a(const std::uint8_t* from) {
    std::int32_t codes;
    std::memcpy(&codes, from, sizeof codes);
    return _mm512_set1_epi32(codes);
  }
  static Vector multiply_add(__m512i a, __m512i b, Vector sum) {
    return reinterpret_cast<Vector>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), a, b));
  }
  static void finish(float* c, Vector sums, float row_scale, const float* column_scale, bool add) {
    const __m512 row = _mm512_mul_ps(_mm512_cvtepi32_ps(reinterpret_cast<__m512i>(sums)), _mm512_set1_ps(row_scale));
    const __m512 value = _mm512_mul_ps(row, _mm512_loadu_ps(column_scale));
    _mm512_storeu_ps(c, add ? _mm512_add_ps(_mm512_loadu_ps(c), value) : value);
  }
};

}  // namespace

// As for bf16: 24 sums, 4 vectors of B and one of A.
void TileAvx512Vnni::multiply(const Int8Arguments& arguments) { rows_of<CodeSet, 6, 4>(arguments); }

}  // namespace graft::kernels::cpu
