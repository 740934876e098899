// GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns are rounded one after the other, and what each leaves is made good by
// those still to come, such that the outputs for the calibration inputs change least.
//
//   H = sum over calibration tokens of x x^T (in, in), plus kGptqDamping * mean(diag H) on its diagonal;   H^-1 = U^T U, U upper
//   for column i:  q_i = nearest on the grid;  e = (w_i - q_i) / U_ii;  w_j -= e U_ij for j > i
//
// Columns come by falling H_ii ("act-order"): what matters most is rounded while the most columns can make it good. Groups stay
// where they are in the matrix and are chosen before, so that no server needs to know of the order (actorder "weight" of
// compressed-tensors, static_groups of GPTQModel). The grid of a group: among scales from 1 down to 0.6 times the one that holds
// the largest weight, the one with the least sum of (w - q)^2 / U_ii^2, which is what the columns to come cannot make good. An
// input that never came (H_ii = 0, taken for 1) is rounded to nearest. The factor is computed in f64, the rest in f32; the same
// bits for the same number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "export/quantize/rounding.h"

namespace graft::exports {

inline constexpr double kGptqDamping = 0.1;

struct GptqFactor {
  at::Tensor order;  // I64 (in): the columns as they are rounded
  at::Tensor upper;  // U (in, in) f32, its columns in that order
  at::Tensor gram;   // H (in, in) f32, damped; its columns as in the matrix
};
// For all linears that read the same x. gram (in, in) f32: the sum of x x^T. DataError when it is not finite.
GptqFactor gptq_factor(const at::Tensor& gram);

// weight (out, in) f32; factor: gptq_factor(). scheme: int or fp8, by groups or by row. DataError when a weight is not finite.
Rounded gptq(const at::Tensor& weight, const GptqFactor& factor, const model::CompressedScheme& scheme);
// On a grid that is given, of finite weights.
Rounded gptq(const at::Tensor& weight, const GptqFactor& factor, const model::CompressedScheme& scheme, Grid grid);

}  // namespace graft::exports
