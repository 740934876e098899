#include <immintrin.h>

#include "kernels/cpu/pairs.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kLine = 32;   // elements of a cache line
constexpr std::int64_t kAhead = 24;  // rows: a panel is a narrow part of wide rows, which no hardware fetches in time

inline __mmask32 first(std::int64_t n) { return n >= kLine ? ~0u : (1u << n) - 1; }

}  // namespace

void interleave_rows_avx512_bf16(const Bf16Bits* in, std::int64_t in_stride, std::int64_t rows, std::int64_t n,
                                 std::uint32_t* out, std::int64_t out_stride) {
  const __m512i pairs = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                         35, 3, 34, 2, 33, 1, 32, 0),
                upper = _mm512_add_epi16(pairs, _mm512_set1_epi16(16));
  for (std::int64_t r = 0; r < rows; r += 2, in += 2 * in_stride, out += out_stride)
    for (std::int64_t j = 0; j < n; j += kLine) {
      const __mmask32 mask = first(n - j), next = r + 1 < rows ? mask : 0;
      if (r + kAhead < rows)
        for (int i = 0; i < 2; ++i) _mm_prefetch(reinterpret_cast<const char*>(in + (kAhead + i) * in_stride + j), _MM_HINT_T0);
      const __m512i low = _mm512_maskz_loadu_epi16(mask, in + j), high = _mm512_maskz_loadu_epi16(next, in + in_stride + j);
      _mm512_mask_storeu_epi32(out + j, static_cast<__mmask16>(first(n - j)), _mm512_permutex2var_epi16(low, pairs, high));
      _mm512_mask_storeu_epi32(out + j + kLine / 2, static_cast<__mmask16>(first(n - j) >> 16),
                               _mm512_permutex2var_epi16(low, upper, high));
    }
}

}  // namespace graft::kernels::cpu
