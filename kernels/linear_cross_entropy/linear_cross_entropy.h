// The output head and the loss in one op; the (T, V) logits are never whole in memory.
//
//   z = X W^T (+ low-rank update);  z' = cap tanh(z / cap) with a soft cap, else z;  lse = log sum_j exp(z'_j)
//   loss = sum over rows with a label t of  w [(1 - d) (lse - z'_t) + d (lse - mean_j z'_j) + l lse^2]    (nats, summed in f64)
//   dz_j = grad_scale w [(1 + 2 l lse) exp(z'_j - lse) - d / V - (1 - d) [j = t]] (1 - (z'_j / cap)^2)
//   dX = dz W  (and the adapter's gradients);  log probability of a row: z'_t - lse
// with d = label_smoothing, l = z_loss, w = the row's weight. A logit of -inf (no soft cap) has gradient 0; with smoothing the
// loss is then infinite, as the formula says.
//
// Source: "Cut your losses", Wijmans et al. 2024, arXiv:2411.09009 (rows without label are left out before the product); gradient
// in the same pass over row chunks as Liger-Kernel's fused linear cross-entropy (Hsu et al. 2024, arXiv:2410.10989, 3.2). z-loss:
// PaLM, Chowdhery et al. 2022, arXiv:2204.02311, 5; smoothing: Szegedy et al. 2015, arXiv:1512.00567, 7.
//
// Shapes: X, dX (T, H); W (V, H), both f32 or both bf16; labels (T) int64, -100 = no loss. T may be 0, all labels may be -100.
// lse and probabilities are f32 on logits of X's type. Chunks are a fixed number of rows, reduced in order by one thread per row:
// same bits for the same inputs and thread count.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/lora_linear/lora_linear.h"

namespace graft::kernels {

// Rows whose logits are in memory at one time.
std::int64_t linear_cross_entropy_chunk(std::int64_t vocabulary, std::int64_t element_bytes);

struct LinearCrossEntropyOptions {
  double softcap = 0;  // 0: none
  double z_loss = 0, label_smoothing = 0;
  at::Tensor row_weight;   // (T) f32, or undefined: 1
  double grad_scale = 1;   // of the loss in the gradients; the returned sum is unscaled
  bool want_grad = false;  // of X and the adapter
  bool want_dx = true;     // with want_grad: false when nothing below the head is trained
  bool want_logprob = false;
  std::uint64_t dropout_seed = 0;  // of the head's adapter, with want_grad
};

struct LinearCrossEntropyResult {
  double sum = 0;
  at::Tensor dx;       // (T, H), zero in rows without label; undefined unless wanted
  at::Tensor logprob;  // (labels that are not -100) f32, in order of the rows
};

LinearCrossEntropyResult linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                              const at::Tensor& labels, const LinearCrossEntropyOptions& options);

}  // namespace graft::kernels
