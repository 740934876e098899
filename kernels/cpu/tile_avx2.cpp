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

// The instruction for bytes adds two products in 16 bits, too few for codes of 0 to 255: it gets the magnitude of a - 128, at
// most 128, and b with the sign of a - 128.
struct CodeSet {
  using Element = std::uint8_t;
  using Vector = std::int32_t __attribute__((vector_size(32)));  // g++ 12 keeps arrays of __m256i in memory
  static constexpr int kDepth = 4, kWidth = 8;
  struct Left {
    __m256i value, magnitude;
  };
  static Vector start(const std::int32_t* /*shift*/) { return Vector{}; }
  static __m256i load_b(const std::uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static Left broadcast_a(const std::uint8_t* from) {
    std::uint32_t codes;
    std::memcpy(&codes, from, sizeof codes);
    const __m256i value = _mm256_set1_epi32(static_cast<std::int32_t>(codes ^ 0x80808080u));
    return {value, _mm256_abs_epi8(value)};
  }
  static Vector multiply_add(const Left& a, __m256i b, Vector sum) {
    const __m256i pairs = _mm256_maddubs_epi16(a.magnitude, _mm256_sign_epi8(b, a.value));
    return sum + reinterpret_cast<Vector>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static void finish(float* c, Vector sums, float row_scale, const float* column_scale, bool add) {
    const __m256 row = _mm256_mul_ps(_mm256_cvtepi32_ps(reinterpret_cast<__m256i>(sums)), _mm256_set1_ps(row_scale));
    const __m256 value = _mm256_mul_ps(row, _mm256_loadu_ps(column_scale));
    _mm256_storeu_ps(c, add ? _mm256_add_ps(_mm256_loadu_ps(c), value) : value);
  }
};

}  // namespace

// Six rows of two vectors: 12 of the 16 registers hold sums.
void TileAvx2::multiply(const TileArguments<float>& arguments) { rows_of<Set, 6, 2>(arguments); }
void TileAvx2::finish(const FinishArguments<float>& arguments) { rows_of<Set, 6, 2>(arguments); }
// Four, where a takes two registers and the products one.
void TileAvx2::multiply(const Int8Arguments& arguments) { rows_of<CodeSet, 4, 2>(arguments); }

}  // namespace graft::kernels::cpu
