// What a quantizer found, brought nearer to the outputs of the calibration inputs, by turns:
//
//   least   f = sum over rows of d H d^T,  d = (q - z) s - w,  H the damped Gram matrix of the inputs (export/quantize/gptq.h)
//   scales  with the codes as they are, of each row: A s = b,  A_gh = c_g^T H_gh c_h,  b_g = c_g^T (H w)_g,  c = q - z of a group
//   codes   with the scales as they are, column by column: the point nearest to q_i - (d H)_i / (H_ii s)
//
// GPTQ decides each column once, before it knows what those after it become, and each scale before any column; where groups
// are small there is something left to win (docs/decisions/0028). Scales are rounded to bf16 before the codes come; a ridge of
// 1e-6 of A's mean diagonal draws those that decide nothing to where they were. A row whose scales would not all be positive,
// or not do better, keeps those it has: f never rises by more than f32's sums.
#pragma once

#include <ATen/core/Tensor.h>

#include "export/quantize/rounding.h"

namespace graft::exports {

enum class Refine { codes, scales_and_codes };

// weight (out, in) f32; gram: H (in, in) f32, its diagonal positive; rounded: on the grid of `scheme`, moved in place; all of
// them contiguous. The same bits for the same number of threads.
void refine(const at::Tensor& weight, const at::Tensor& gram, const model::CompressedScheme& scheme, Refine what,
            Rounded& rounded);

}  // namespace graft::exports
