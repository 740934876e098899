// What a server does to the input of a linear that it multiplies in 8 bits: each row (token) is rounded onto a grid of its own,
// found as it comes.
//
//   int8   s = max|x| / 127   y = s * clamp(round(x / s), -127, 127)     ties to even
//   fp8    s = max|x| / 448   y = s * e4m3(x / s)
//
// (vLLM's dynamic_scaled_int8_quant and dynamic_per_token_scaled_fp8_quant; compressed-tensors' "token", dynamic.) A row of zeros
// stays; a row with a value that is not finite becomes NaN. It is what the weights are multiplied with: the product of the codes
// differs from the product of these values by the rounding of sums alone.
//
// Shapes: x (T, K) f32 or bf16, any row stride; the result is dense, of the same shape and type.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

enum class RowRounding { none, int8, fp8 };

at::Tensor rounded_rows(const at::Tensor& x, RowRounding rounding);  // x itself for none

}  // namespace graft::kernels
