// Sixteen f32 values in as many registers as the instruction set of the file needs for them: for loops whose sums must stay in
// registers. By reference, for how such a value is passed depends on the instruction set. (In a GRAFT_SIMD function g++ 12 takes
// them apart for the least of its instruction sets.)
#pragma once

#include <cstdint>
#include <cstring>

#define GRAFT_LANES [[gnu::always_inline]] inline

namespace graft::kernels {

using Lanes = float __attribute__((vector_size(64)));
using Places = std::int32_t __attribute__((vector_size(64)));
using Halves = std::uint16_t __attribute__((vector_size(32)));

inline constexpr Places kPlace = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

GRAFT_LANES void load_lanes(Lanes& lanes, const float* x) { std::memcpy(&lanes, x, sizeof lanes); }
GRAFT_LANES void load_lanes(Lanes& lanes, const std::uint16_t* bf16) {
  Halves bits;
  std::memcpy(&bits, bf16, sizeof bits);
  lanes = reinterpret_cast<Lanes>(__builtin_convertvector(bits, Places) << 16);
}
GRAFT_LANES void store_lanes(const Lanes& lanes, float* x) { std::memcpy(x, &lanes, sizeof lanes); }

// As fast_exp (kernels/simd.h).
GRAFT_LANES void exp_lanes(Lanes& x) {
  constexpr Lanes high = Lanes{} + 88.3f, low = Lanes{} - 87.3f;
  x = x > high ? high : x;
  x = x < low ? low : x;
  const Lanes shifted = x * 1.44269504f + 12582912.f, n = shifted - 12582912.f;
  const Lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  x = p * reinterpret_cast<Lanes>((reinterpret_cast<Places>(shifted) + (127 - 0x4b400000)) << 23);
}

}  // namespace graft::kernels
