// A frozen linear layer with an optional low-rank update (LoRA; Hu et al. 2021, arXiv:2106.09685, eq. 3).
//
//   S = scale * D(X) A^T       (M, r)
//   Y = X W^T + S B^T (+ b)    (M, N)
//   backward: dS = scale * dY B;  dB += dY^T S;  dA += dS^T D(X);  dX = dY W + D(dS A).    W has no gradient.
//   D is dropout of elements on the low-rank path: zero with probability p, else divided by 1 - p; identity when p is 0.
//
// Shapes: M tokens, K in, N out, r rank. X (M, K) and W (N, K) share one of f32, bf16; b (N) too. M may be 0; rows of X and dY
// are dense with any row stride. A (r, K) and B (N, r) are f32 masters; products with X run in X's dtype with f32 accumulation.
// grad_a, grad_b are f32 and accumulated into. The mask of D is a pure function of dropout_seed and the element's index (Philox),
// so the backward draws it again instead of storing it. Deterministic: same bits for the same inputs and thread count.
//
// W may be held in codes (coded_weight.h): of 8 bits, and then X W^T and dY W are products of rounded rows (int8_weight.h), or in
// NF4, and then they are those of the numbers that the codes stand for, rounded to X's dtype. The low-rank path is the same.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace graft::kernels {

struct CodedWeight;

struct LowRank {
  at::Tensor a, b;            // (r, K), (N, r) f32
  at::Tensor grad_a, grad_b;  // same shapes, f32; undefined when not training
  double scale = 1;           // alpha / r, or alpha / sqrt(r)
  double dropout = 0;         // probability of dropping an element of X on the low-rank path, training only
};

// Distance of the rows of S in memory: they are read in pairs of bf16, or as whole tiles, with zeros behind a rank that fills
// none.
std::int64_t low_rank_stride(std::int64_t rank, at::ScalarType type);

struct LoraLinearSaved {
  at::Tensor s;                    // (M, r) dtype of X; written by the forward
  std::uint64_t dropout_seed = 0;  // set by the caller before the forward; another for every linear and micro-batch
};

// One of several linears that read the same X: q, k and v, or gate and up.
struct LoraPart {
  at::Tensor weight, bias;             // (N, K); (N) or undefined
  LowRank* adapter = nullptr;          // null: the frozen linear alone
  LoraLinearSaved* saved = nullptr;    // null: inference, no dropout
  const CodedWeight* coded = nullptr;  // instead of weight; of 8 bits on the CPU alone
};

// Y of each part. What the backward needs besides X is in part.saved, and the caller keeps X: nothing else is stored.
std::vector<at::Tensor> lora_group_forward(const at::Tensor& x, const std::vector<LoraPart>& parts);
// Accumulates into each adapter's grad_a and grad_b; returns dX summed over the parts, or an undefined tensor when need_dx is
// false. Reads dY and X and writes neither. Where N is odd and the distance of rows of dY even, a 0 stands behind each.
at::Tensor lora_group_backward(const std::vector<at::Tensor>& dy, const at::Tensor& x, const std::vector<LoraPart>& parts,
                               bool need_dx);

// X of a linear behind an op that makes it again in its own backward, out of dX and where dX was (gated_activation.h): called
// once, when dX is complete.
using InputFromGradient = std::function<at::Tensor(at::Tensor dx)>;
// The same with such an X; dX is input's to use.
void lora_group_backward(const std::vector<at::Tensor>& dy, const InputFromGradient& input, const std::vector<LoraPart>& parts);

// A group of one. adapter may be null; saved null: inference.
at::Tensor lora_linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, LowRank* adapter,
                               LoraLinearSaved* saved);
// The same into y (M, N), which is overwritten.
void lora_linear_forward_out(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             LowRank* adapter, LoraLinearSaved* saved);
at::Tensor lora_linear_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                LoraLinearSaved& saved, bool need_dx);

}  // namespace graft::kernels
