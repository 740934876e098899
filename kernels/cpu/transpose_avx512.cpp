#include <immintrin.h>

#include "kernels/cpu/transpose.h"

namespace graft::kernels::cpu {
namespace {

constexpr int kSide = 16;

// Rows to columns in three exchanges: of words, of pairs of words, of quarters.
inline void transpose_square(__m512i (&x)[kSide]) {
  __m512i y[kSide];
#pragma GCC unroll 16
  for (int i = 0; i < kSide; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSide; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {  // x[4 g + i]: column i of each quarter, rows 4 g ... 4 g + 3
    const __m512i low = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88), high = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    const __m512i low2 = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88), high2 = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    y[i] = _mm512_shuffle_i32x4(low, low2, 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(high, high2, 0x88);
    y[i + 8] = _mm512_shuffle_i32x4(low, low2, 0xdd);
    y[i + 12] = _mm512_shuffle_i32x4(high, high2, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSide; ++i) x[i] = y[i];
}

inline __mmask16 first(std::int64_t n) { return n >= kSide ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }

}  // namespace

void transpose_words_avx512(const void* in, std::int64_t in_stride, std::int64_t rows, std::int64_t words, std::uint32_t* out,
                            std::int64_t out_stride) {
  for (std::int64_t r = 0; r < rows; r += kSide) {
    const __mmask16 write = first(rows - r);
    for (std::int64_t w = 0; w < words; w += kSide) {
      const __mmask16 read = first(words - w);
      __m512i x[kSide];
      for (int i = 0; i < kSide; ++i) {
        const auto* from = static_cast<const unsigned char*>(in) + (r + i) * in_stride + 4 * w;
        x[i] = r + i < rows ? _mm512_maskz_loadu_epi32(read, from) : _mm512_setzero_si512();
        // Sixteen short rows at a time are read side by side: no hardware fetches the next ones in time.
        _mm_prefetch(reinterpret_cast<const char*>(from) + kSide * in_stride, _MM_HINT_T0);
      }
      transpose_square(x);
      for (int i = 0; i < kSide && w + i < words; ++i) _mm512_mask_storeu_epi32(out + (w + i) * out_stride + r, write, x[i]);
    }
  }
}

}  // namespace graft::kernels::cpu
