#include <immintrin.h>

#include "kernels/cpu/nf4.h"

namespace graft::kernels::cpu {

// A byte becomes a word with its high half lowest in one vector, its low half in another. The permutation reads the lowest four
// bits of a word and no others.
void look_up_avx512(const std::uint8_t* codes, const float* values, float* out) {
  const __m512 table = _mm512_loadu_ps(values);
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
                second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  for (int i = 0; i < 64; i += 32) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i / 2)));
    const __m512i high = _mm512_srli_epi32(bytes, 4);
    _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(_mm512_permutex2var_epi32(high, first, bytes), table));
    _mm512_storeu_ps(out + i + 16, _mm512_permutexvar_ps(_mm512_permutex2var_epi32(high, second, bytes), table));
  }
}

}  // namespace graft::kernels::cpu
