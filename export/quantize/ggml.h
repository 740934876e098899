// Weights to blocks of the types that llama.cpp's quantizers write, with the same bytes (ggml/src/ggml-quants.c; layouts:
// core/gguf_dequantize.cpp). Arithmetic is f32 in the reference's order.
//
// Without importance weights (the *_ref functions):
//   Q4_0, Q5_0   d = (signed value of largest magnitude) / -8, -16;  q = floor(x/d + 8.5), floor(x/d + 16.5), at most 15, 31
//   Q4_1, Q5_1   d = (max - min) / 15, 31;  q = floor((x - min)/d + 0.5)
//   Q4_K, Q5_K   per 32 elements the scale and minimum that minimise sum w (s q - m - x)^2 over some 20 grids, w = rms + |x|;
//                both rounded to 6 bits of the block's largest, then q to nearest
//   Q6_K         per 16 elements the scale that minimises sum x^2 (s q - x)^2 over 19 grids; rounded to 8 bits, then q to nearest
// With the mean square h_c of the inputs of each column c (the *_impl functions):
//   Q4_0, Q5_0   per block the scale that minimises sum w (s q - x)^2 over 19 grids, w = h sqrt(mean x^2 of the row + x^2)
//   Q4_1, Q5_1   scale and minimum likewise, over 37 grids
//   Q4_K, Q5_K   the same with w = h sqrt(2 mean x^2 of the block + x^2); scales and minima to 6 bits with the least error
//   Q6_K         as without, with w = h
//   Q8_0, F16    as without, as all others
// From codes that another rounding found (q4_0_blocks()): Q4_0 with d = f16(s), which is s from 2^-17 on, and the codes q + 8.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <string>
#include <vector>

#include "core/gguf.h"
#include "export/quantize/rounding.h"

namespace graft::exports {

// The rows of an f32 tensor, contiguous, each a multiple of the type's block, on all threads: blocks never cross rows, so the
// bytes do not depend on their number. importance: f32 (columns), or undefined. Every type that graft writes; DataError for a
// value that is not finite where the type cannot hold it.
std::vector<std::byte> quantize_rows(const at::Tensor& values, GgmlType type, const at::Tensor& importance = {});
// What a reader makes of those bytes: f32, of the same shape.
at::Tensor dequantized(const std::vector<std::byte>& bytes, GgmlType type, at::IntArrayRef shape);
at::Tensor quantized(const at::Tensor& values, GgmlType type, const at::Tensor& importance = {});

// The grids that Q4_0 can hold, and its blocks from whole rows on one.
inline constexpr model::CompressedScheme kQ4_0Grid = {model::CompressedFormat::packed, 4, 32, true};
std::vector<std::byte> q4_0_blocks(const Rounded& rounded);

bool is_searched(GgmlType type);  // without importance too

namespace detail {  // one row each, values finite; importance may be null

void row_q4_0(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q4_1(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q5_0(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q5_1(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q4_k(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q5_k(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q6_k(const float* x, const float* importance, std::int64_t n, std::byte* out);
void row_q4_0_of_codes(const float* codes, const float* scales, std::int64_t n, std::byte* out);

}  // namespace detail
}  // namespace graft::exports
