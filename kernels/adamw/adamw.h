// AdamW over flat f32 arenas (Kingma and Ba 2015, arXiv:1412.6980; decoupled weight decay: Loshchilov and Hutter 2019,
// arXiv:1711.05101, algorithm 2, as in torch.optim.AdamW), with the gradient clipped by its global norm first.
//
//   g = g min(1, max_norm / (|g| + 1e-6))                     when max_norm > 0
//   p = p (1 - lr decay);  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p = p - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
//
// Shapes: parameters, gradients, m, v (P) f32, contiguous. Bias corrections are computed in f64 once a step. The norm is summed
// in f64 over blocks of a fixed size, then over the blocks in order: same bits for any number of threads. When the norm is not
// finite (a NaN or infinity anywhere in the gradient) nothing is changed.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

struct AdamWOptions {
  double lr = 1e-4, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double max_norm = 0;  // 0: no clipping
};

struct AdamWResult {
  double norm = 0;       // of the gradient, before clipping
  bool applied = false;  // false: the norm is not finite
};

double global_norm(const at::Tensor& gradients);

// t: this step's number, from 1.
AdamWResult adamw_step(at::Tensor parameters, const at::Tensor& gradients, at::Tensor m, at::Tensor v, std::int64_t t,
                       const AdamWOptions& options);

}  // namespace graft::kernels
