// What vectorised loops (core/simd.h) of the kernels share. Products and sums are fused where the instruction set can, so results
// may differ in the last bit between instruction sets; on one machine they do not.
#pragma once

#include <c10/util/BFloat16.h>

#include <bit>
#include <cstdint>

#include "core/simd.h"

namespace graft::kernels {

inline float load(float x) { return x; }
inline float load(c10::BFloat16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.x) << 16); }

// Rounds to nearest even; NaN stays NaN.
inline std::uint16_t bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<std::uint16_t>(x != x ? 0x7fc0u : rounded);
}
inline void store(float& out, float x) { out = x; }
inline void store(c10::BFloat16& out, float x) { out.x = bf16_bits(x); }
template <class T>
inline float round_to(float x) {
  T out;
  store(out, x);
  return load(out);
}

// e^x to 1 ulp or so; saturates outside [-87.3, 88.3]; NaN gives NaN. Polynomial of Cephes' expf (Moshier).
inline float fast_exp(float x) {
  x = x > 88.3f ? 88.3f : (x < -87.3f ? -87.3f : x);
  const float shifted = x * 1.44269504f + 12582912.f;  // the sum's low mantissa bits are round(x / ln 2)
  const float n = shifted - 12582912.f;
  const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const auto exponent = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(12582912.f) + 127u;
  return p * std::bit_cast<float>(exponent << 23);
}

inline float fast_tanh(float x) { return 1.f - 2.f / (fast_exp(2.f * x) + 1.f); }  // absolute error 1e-7

// Calls f with a value of the tensor's element type: by_type(x.scalar_type(), [&](auto type) { using T = decltype(type); ... }).
template <class ScalarType, class F>
void by_type(ScalarType type, F&& f) {
  if (type == ScalarType::BFloat16)
    f(c10::BFloat16{});
  else
    f(float{});
}

}  // namespace graft::kernels
