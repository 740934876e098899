// Root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4).
//
//   x <- x + residual                      where a residual is given, rounded once
//   r = 1 / sqrt(mean(x^2) + eps)          per row, f32
//   y = x r (o + w)
//   backward, m = dy (o + w):  dx = r (m - x r^2 mean(m x)).     w is frozen and has no gradient.
//
// Shapes: x, y, dy, dx (M, H); w (H); r (M) f32. M may be 0. x, w share f32 or bf16; rows may be padded (any row stride).
// Rounding in bf16: Llama rounds x r before the product with the gain (as transformers' LlamaRMSNorm); with gain_in_f32 (Gemma)
// only y is rounded. Each row is reduced by one thread in f32: same bits for any number of threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

struct RmsNormOptions {
  double eps = 1e-5;
  double gain_offset = 0;  // o
  bool gain_in_f32 = false;
};

// rstd, when not null, receives r for the backward. residual: of x's shape and type, added to x in place.
at::Tensor rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, const RmsNormOptions& options, at::Tensor* rstd,
                            const at::Tensor& residual = {});

// Adds to dx when it is given (the gradient of the residual stream), else returns a new tensor.
at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                             const RmsNormOptions& options, at::Tensor dx = {});

}  // namespace graft::kernels
