#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/nf4.h"

namespace graft::kernels::cpu {

// Eight codes are a word. A permutation chooses among eight values: one for each half, and bit 3 of a code between them.
void look_up_avx2(const std::uint8_t* codes, const float* values, float* out) {
  const __m256 low = _mm256_loadu_ps(values), high = _mm256_loadu_ps(values + 8);
  const __m256i shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
  for (int i = 0; i < 64; i += 8) {
    std::int32_t word;
    std::memcpy(&word, codes + i / 2, sizeof word);
    const __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));
    _mm256_storeu_ps(out + i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, code), _mm256_permutevar8x32_ps(high, code), upper));
  }
}

}  // namespace graft::kernels::cpu
