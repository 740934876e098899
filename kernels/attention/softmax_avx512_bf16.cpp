#include <immintrin.h>

#include "kernels/attention/softmax_body.h"

namespace graft::kernels::cpu {
namespace {

struct Set {
  // The polynomial of fast_exp (kernels/simd.h) between -ln 2 / 2 and ln 2 / 2, times 2^n.
  GRAFT_LANES static void exp(Lanes& lanes) {
    const auto of = [](float x) { return _mm512_set1_ps(x); };
    const __m512 x = _mm512_max_ps(of(-104.f), _mm512_min_ps(of(88.3f), reinterpret_cast<__m512&>(lanes)));  // a NaN stays
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, of(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_fmadd_ps(n, of(2.12194440e-4f), _mm512_fnmadd_ps(n, of(0.693359375f), x));
    __m512 p = _mm512_fmadd_ps(of(1.9875691500e-4f), r, of(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, of(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, of(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, of(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, of(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, of(1.f)));
    lanes = reinterpret_cast<Lanes>(_mm512_scalef_ps(p, n));
  }
  GRAFT_LANES static void store_left(const Lanes& lanes, Bf16Bits* out) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(reinterpret_cast<const __m512&>(lanes))));
  }
  GRAFT_LANES static void store_right(const Lanes& low, const Lanes& high, std::int64_t column, Bf16Bits* out) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                           4, 19, 3, 18, 2, 17, 1, 16, 0);
    const auto halves = reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh(reinterpret_cast<const __m512&>(high), reinterpret_cast<const __m512&>(low)));
    _mm512_storeu_si512(out + 2 * column, _mm512_permutexvar_epi16(order, halves));
  }
};

}  // namespace

void SoftmaxAvx512Bf16::forward(const SoftmaxForward<Bf16Bits>& arguments) { softmax_of<Set>(arguments); }
void SoftmaxAvx512Bf16::backward(const SoftmaxBackward<Bf16Bits>& arguments) { softmax_backward_of<Set>(arguments); }

}  // namespace graft::kernels::cpu
