// Rows of bf16, two at a time, as the words that one step of a tile product multiplies.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {

// out[p * out_stride + j] = element j of row 2 p, and above it that of row 2 p + 1, for j < n and 2 p < rows; zero above the last
// of an odd number of rows. in: rows at a distance of in_stride elements; out_stride in words. Nothing else is written.
void interleave_rows(const Bf16Bits* in, std::int64_t in_stride, std::int64_t rows, std::int64_t n, std::uint32_t* out,
                     std::int64_t out_stride);

void interleave_rows_avx512_bf16(const Bf16Bits* in, std::int64_t in_stride, std::int64_t rows, std::int64_t n,
                                 std::uint32_t* out, std::int64_t out_stride);

}  // namespace graft::kernels::cpu
