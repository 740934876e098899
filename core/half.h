// IEEE half precision, bfloat16 and e4m3 (OCP FP8, Micikevicius et al. 2022), converted in software: the same bits on every
// machine. Rounding is to nearest even; NaN stays NaN (quiet). Branch-free where it matters, so that loops over them vectorise.
#pragma once

#include <bit>
#include <cstdint>

namespace graft {

inline float f32_from_f16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7FFFu;
  // Moving the fields in place scales normal and subnormal numbers alike by 2^-112.
  const float finite = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const std::uint32_t special = magnitude << 13 | 0x7F800000u;
  const std::uint32_t bits = magnitude >= 0x7C00u ? special : std::bit_cast<std::uint32_t>(finite);
  return std::bit_cast<float>(bits | sign);
}

inline std::uint16_t f16_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t large = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;  // 65536 and up, infinity, NaN
  // Below 2^-14: adding 0.5 leaves the rounded subnormal in the low bits.
  const std::uint32_t small = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  const std::uint32_t is_large = magnitude >= 0x47800000u ? ~0u : 0, is_small = magnitude < 0x38800000u ? ~0u : 0;
  return static_cast<std::uint16_t>(sign | (large & is_large) | (small & is_small) | (normal & ~is_large & ~is_small));
}

inline float f32_from_bf16(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

inline std::uint16_t bf16_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16, nan = bits >> 16 | 64u;
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

// A sign, an exponent with bias 7, three bits; all ones behind the sign: NaN.
inline float f32_from_e4m3(std::uint8_t byte) {
  const std::uint32_t sign = (byte & 0x80u) << 24, magnitude = byte & 0x7Fu;
  const float finite = std::bit_cast<float>(magnitude << 20) * 0x1p120f;  // as above
  return std::bit_cast<float>((magnitude == 0x7Fu ? 0x7FC00000u : std::bit_cast<std::uint32_t>(finite)) | sign);
}

}  // namespace graft
