// A frozen linear layer with an optional low-rank update (LoRA; Hu et al. 2021, arXiv:2106.09685, eq. 3).
//
//   S = scale * X A^T          (M, r)
//   Y = X W^T + S B^T (+ b)    (M, N)
//   backward: dS = scale * dY B;  dB += dY^T S;  dA += dS^T X;  dX = dY W + dS A.    W has no gradient.
//
// Shapes: M tokens, K in, N out, r rank. X (M, K) and W (N, K) share one of f32, bf16; b (N) too.
// A (r, K) and B (N, r) are f32 masters; products with X run in X's dtype with f32 accumulation. grad_a, grad_b are f32 and
// accumulated into. Deterministic: same bits for the same inputs and thread count.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

struct LowRank {
  at::Tensor a, b;             // (r, K), (N, r) f32
  at::Tensor grad_a, grad_b;   // same shapes, f32; undefined when not training
  double scale = 1;            // alpha / r, or alpha / sqrt(r)
  double dropout = 0;          // probability of dropping an element of X on the low-rank path, training only
};

struct LoraLinearSaved {
  at::Tensor s;                // (M, r) dtype of X
  std::uint64_t dropout_seed = 0;
};

// adapter may be null. saved null: inference (no dropout).
at::Tensor lora_linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const LowRank* adapter,
                               LoraLinearSaved* saved);
// Accumulates into adapter->grad_a/grad_b; returns dX, or an undefined tensor when need_dx is false.
at::Tensor lora_linear_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                const LoraLinearSaved& saved, bool need_dx);

}  // namespace graft::kernels
