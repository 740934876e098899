// Weights in NF4 (kernels/nf4/nf4.h: formula, source, layout) back to numbers, a rectangle at a time: what packing a panel of a
// tile product wants.
//
// A block of 64 has 16 values at most: they are computed once, rounded to the element type, and looked up, with a permutation of
// registers where there is AVX2 or better. Nothing is computed there: same bits on every instruction set.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {

// (N, columns) elements in blocks of 64 that run through all rows.
struct Nf4View {
  const std::uint8_t *codes, *scales;
  const float* group_scales;
  float offset;
  std::int64_t columns;
};

// out (rows, columns), rows of any stride: those from `row` and `column` on. Element: float or Bf16Bits.
template <class Element>
void dequantize(const Nf4View& weight, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
                Element* out, std::int64_t stride);

// The 64 values of a block: out[i] = values[code i], two codes to a byte, the first in the high half.
void look_up(const std::uint8_t* codes, const float* values, float* out);
void look_up(const std::uint8_t* codes, const Bf16Bits* values, Bf16Bits* out);

void look_up_avx2(const std::uint8_t* codes, const float* values, float* out);
void look_up_avx512(const std::uint8_t* codes, const float* values, float* out);
void look_up_avx512_bf16(const std::uint8_t* codes, const Bf16Bits* values, Bf16Bits* out);

}  // namespace graft::kernels::cpu
