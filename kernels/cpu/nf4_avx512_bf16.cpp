#include <immintrin.h>

#include "kernels/cpu/nf4.h"

namespace graft::kernels::cpu {

// A byte becomes a pair of half words, its high half in the first. The permutation reads the lowest five bits of each: with the
// table twice in the register, the fifth does not matter.
void look_up_avx512_bf16(const std::uint8_t* codes, const Bf16Bits* values, Bf16Bits* out) {
  const __m512i table = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
  for (int i = 0; i < 64; i += 32) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i / 2)));
    const __m512i pairs = _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi16(pairs, table));
  }
}

}  // namespace graft::kernels::cpu
