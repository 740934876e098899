// The products of lora_linear with our own CPU kernels (kernels/cpu/gemm.h), each output in one pass: the low-rank update, the
// bias and what was there before are summed with the frozen product in f32 and rounded once. Private to this folder.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/nf4/nf4_weight.h"

namespace graft::kernels::cpu {

// Whether these kernels are the fastest way here: not for few rows, not without AVX2, not for bf16 without instructions for it.
// y: of the forward, or its gradient.
bool multiplies(const at::Tensor& x, const at::Tensor& y);

// out = [out +] [bias +] scale * sum of left right^T (transposed) or left right
struct Product {
  struct Sides {
    at::Tensor left, right;
    const Nf4Weight* nf4 = nullptr;  // instead of right
    std::int64_t padded = 0;         // as Term's
  };
  at::Tensor out;
  bool transposed;
  std::vector<Sides> terms;
  at::Tensor bias = {};
  bool add = false;
  double scale = 1;
  std::vector<Int8Term> int8 = {};
};
void multiply(const std::vector<Product>& products);  // none reads what another writes

Int8Rows int8_rows(const at::Tensor& x);

// grad_b (N, r) += dY^T S;  grad_a (r, K) += dS^T X
struct FactorGradients {
  at::Tensor dy, s, ds, x, grad_a, grad_b;
};
void add(const std::vector<FactorGradients>& gradients);

}  // namespace graft::kernels::cpu
