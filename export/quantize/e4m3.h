// Loops of the 8-bit formats. e4m3: a sign, an exponent with bias 7 and three bits; the largest value is 448.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace graft::exports {

inline constexpr float kLargestE4M3 = 448, kScaleOfZeros = 0x1p-7f;
inline constexpr float kSmallestNormalE4M3 = 0x1p-6f;

inline float clamped(float v, float low, float high) {  // NaN becomes low
  v = v > low ? v : low;
  return v < high ? v : high;
}

// The value of e4m3 that is nearest to v, |v| <= 448, ties to even: three bits behind the leading one, or a multiple of 2^-9
// below the normal range.
inline float nearest_e4m3(float v) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(v);
  const float normal = std::bit_cast<float>((bits + 0x7FFFFu + (bits >> 20 & 1u)) & 0xFFF00000u);
  const float small = std::copysign((std::fabs(v) + 0x1.8p14f) - 0x1.8p14f, v);
  return std::fabs(v) >= kSmallestNormalE4M3 ? normal : small;
}
// Its byte.
inline std::uint8_t byte_e4m3(float v) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(v), sign = bits >> 24 & 0x80u;
  const std::uint32_t normal = ((bits & 0x7FFFFFFFu) >> 20) - (120u << 3), small = static_cast<std::uint32_t>(std::fabs(v) * 512);
  return static_cast<std::uint8_t>(sign | (std::fabs(v) >= kSmallestNormalE4M3 ? normal : small));
}

}  // namespace graft::exports
