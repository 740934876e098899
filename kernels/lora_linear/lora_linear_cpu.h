// The products of lora_linear with our own CPU kernels (kernels/cpu/gemm.h), each output in one pass: the low-rank update, the bias
// and what was there before are summed with the frozen product in f32 and rounded once. Private to this folder.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/lora_linear/lora_linear.h"

namespace graft::kernels::cpu {

// Whether these kernels are the fastest way here: not for few rows, not where the library has AMX for bf16, not without AVX2.
bool multiplies(const at::Tensor& x, const at::Tensor& weight);

// out = [out +] left right^T (transposed) or left right, `scale` times it. With `low`: + low low_right^T or low low_right as well.
struct Products {
  const at::Tensor &left, &right;
  bool transposed;
  at::Tensor low = {}, low_right = {};  // undefined: none
  at::Tensor bias = {};                // undefined: none
  bool add = false;
  double scale = 1;
};
void product(at::Tensor out, const Products& products);

// grad_b (N, r) += dY^T S and grad_a (r, K) += dS^T X
void add_gradients(const at::Tensor& dy, const at::Tensor& s, const at::Tensor& ds, const at::Tensor& x, at::Tensor grad_a,
                   at::Tensor grad_b);

}  // namespace graft::kernels::cpu
