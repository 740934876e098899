#include "kernels/attention/softmax.h"

namespace graft::kernels::cpu {

template <class Element>
void softmax(const SoftmaxForward<Element>& arguments) {
  if (isa() >= Isa::avx512_bf16) return SoftmaxAvx512Bf16::forward(arguments);
  if (isa() >= Isa::avx512) return SoftmaxAvx512::forward(arguments);
  if (isa() == Isa::avx2) return SoftmaxAvx2::forward(arguments);
  SoftmaxScalar::forward(arguments);
}

template <class Element>
void softmax_backward(const SoftmaxBackward<Element>& arguments) {
  if (isa() >= Isa::avx512_bf16) return SoftmaxAvx512Bf16::backward(arguments);
  if (isa() >= Isa::avx512) return SoftmaxAvx512::backward(arguments);
  if (isa() == Isa::avx2) return SoftmaxAvx2::backward(arguments);
  SoftmaxScalar::backward(arguments);
}

template void softmax(const SoftmaxForward<float>&);
template void softmax(const SoftmaxForward<Bf16Bits>&);
template void softmax_backward(const SoftmaxBackward<float>&);
template void softmax_backward(const SoftmaxBackward<Bf16Bits>&);

}  // namespace graft::kernels::cpu
