// The weight of a frozen linear in codes of 8 bits (kernels/cpu/int8.h), packed once for both of its products.
//
//   Y ~ X W^T: scales of X by token, of W by output      dX ~ dY W: scales of dY by token, of W by input
//
// Two codes take the memory of one bf16 value, and W itself is not needed any more. CPU only.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/cpu/int8.h"

namespace graft::kernels {

struct Int8Weight {
  explicit Int8Weight(const at::Tensor& weight);  // (N, K), f32 or bf16

  std::int64_t out() const { return forward.columns(); }
  std::int64_t in() const { return forward.depth(); }
  std::int64_t bytes() const { return forward.bytes() + backward.bytes(); }

  cpu::Int8Matrix forward, backward;  // of W and of W^T
};

}  // namespace graft::kernels
