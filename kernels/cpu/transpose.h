// 32-bit words of rows as words of columns: f32 values, or pairs of bf16 that one step of a tile product multiplies.
#pragma once

#include <cstdint>

namespace graft::kernels::cpu {

// out[w * out_stride + r] = word w of row r, for r < rows and w < words. in: rows at a distance of in_stride bytes, of any
// alignment; out_stride in words. Nothing else is written.
void transpose_words(const void* in, std::int64_t in_stride, std::int64_t rows, std::int64_t words, std::uint32_t* out,
                     std::int64_t out_stride);

void transpose_words_avx512(const void* in, std::int64_t in_stride, std::int64_t rows, std::int64_t words, std::uint32_t* out,
                            std::int64_t out_stride);

}  // namespace graft::kernels::cpu
