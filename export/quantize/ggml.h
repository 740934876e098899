// Weights to blocks of the types that llama.cpp's quantizers write, without importance weights, with the same bytes
// (ggml/src/ggml-quants.c, the *_ref functions; layouts: core/gguf_dequantize.cpp). Arithmetic is f32 in the reference's order.
//
//   Q4_0, Q5_0   d = (signed value of largest magnitude) / -8, -16;  q = floor(x/d + 8.5), floor(x/d + 16.5), at most 15, 31
//   Q4_1, Q5_1   d = (max - min) / 15, 31;  q = floor((x - min)/d + 0.5)
//   Q4_K, Q5_K   per 32 elements the scale and minimum that minimise sum w (s q - m - x)^2 over some 20 grids, w = rms + |x|;
//   both
//                rounded to 6 bits of the block's largest, then q to nearest
//   Q6_K         per 16 elements the scale that minimises sum x^2 (s q - x)^2 over 19 grids; rounded to 8 bits, then q to nearest
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "core/gguf.h"

namespace graft::exports {

// n elements, a multiple of the type's block. Every type that graft writes; DataError for a value that is not finite where the
// type cannot hold it.
void quantize_blocks(GgmlType type, const float* x, std::int64_t n, std::byte* out);

// The rows of an f32 tensor, contiguous, on all threads: blocks never cross rows, so the bytes do not depend on their number.
std::vector<std::byte> quantize_rows(const at::Tensor& values, GgmlType type);
// What a reader makes of those bytes: f32, of the same shape.
at::Tensor quantized(const at::Tensor& values, GgmlType type);

namespace detail {  // one block each, values finite

void block_q4_0(const float* x, std::byte* out);
void block_q4_1(const float* x, std::byte* out);
void block_q5_0(const float* x, std::byte* out);
void block_q5_1(const float* x, std::byte* out);
void block_q4_k(const float* x, std::byte* out);
void block_q5_k(const float* x, std::byte* out);
void block_q6_k(const float* x, std::byte* out);

}  // namespace detail
}  // namespace graft::exports
