#include "kernels/attention/softmax.h"

namespace graft::kernels::cpu {

void softmax(const SoftmaxForward<float>& arguments) {
  if (isa() >= Isa::avx512) return SoftmaxAvx512::forward(arguments);
  if (isa() == Isa::avx2) return SoftmaxAvx2::forward(arguments);
  SoftmaxScalar::forward(arguments);
}
void softmax(const SoftmaxForward<Bf16Bits>& arguments) { SoftmaxAvx512Bf16::forward(arguments); }

void softmax_backward(const SoftmaxBackward<float>& arguments) {
  if (isa() >= Isa::avx512) return SoftmaxAvx512::backward(arguments);
  if (isa() == Isa::avx2) return SoftmaxAvx2::backward(arguments);
  SoftmaxScalar::backward(arguments);
}
void softmax_backward(const SoftmaxBackward<Bf16Bits>& arguments) { SoftmaxAvx512Bf16::backward(arguments); }

}  // namespace graft::kernels::cpu
