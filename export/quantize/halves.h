// Weights in 16 bits, to the nearest, ties to even.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::exports {

struct Halves {
  at::Tensor stored;  // BF16 or F16
  at::Tensor values;  // f32: what is read back; infinite where x does not fit
};

// x: f32. type: at::kBFloat16 or at::kHalf.
Halves to_halves(const at::Tensor& x, at::ScalarType type);

}  // namespace graft::exports
