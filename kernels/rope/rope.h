// Rotary position embedding, in place (Su et al. 2021, arXiv:2104.09864; halves paired as (i, i + d/2), the layout of Hugging
// Face checkpoints).
//
//   x0' = x0 cos - x1 sin,  x1' = x1 cos + x0 sin        with x0 = x[..., i], x1 = x[..., i + d/2], i < d/2
//   backward: the same with -sin (the rotation's transpose)
//
// Shapes: x (T, heads, D), f32 or bf16; cos, sin (T, d/2) f32, one row per token, already scaled by an attention factor if any.
// d <= D: dimensions from d on are left alone (partial rotary). x may be a view with any strides but a dense last dimension.
// Computed in f32 and rounded once. No reductions: same bits always.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

void rope_forward(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin);
void rope_backward(at::Tensor dx, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace graft::kernels
