// What a server does to the input of a linear that it multiplies in 8 bits: each row (token) is rounded onto a grid of its own,
// found as it comes, or all rows onto one that calibration found.
//
//   int8         s = max|x| / 127             y = s * clamp(round(x / s), -127, 127)     ties to even
//   fp8          s = max|x| / 448, or given   y = s * e4m3(clamp(x / s, -448, 448))
//   fp8_by_128   the same with a scale for each 128 columns of a row; the last of them may be fewer
//
// (vLLM's dynamic_scaled_int8_quant, dynamic_per_token_scaled_fp8_quant, static_scaled_fp8_quant and per_token_group_quant_fp8;
// compressed-tensors' "token", dynamic, "tensor", static, and "group", dynamic.) Zeros stay; what shares a scale with a value
// that is not finite becomes NaN. It is what the weights are multiplied with: the product of the codes differs from the product
// of these values by the rounding of sums alone.
//
// Shapes: x (T, K) f32 or bf16, any row stride; the result is dense, of the same shape and type.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

enum class RowRounding { none, int8, fp8, fp8_by_128 };

// x itself for none. scale: that all rows share, with fp8 alone; 0: each row has its own.
at::Tensor rounded_rows(const at::Tensor& x, RowRounding rounding, float scale = 0);

}  // namespace graft::kernels
