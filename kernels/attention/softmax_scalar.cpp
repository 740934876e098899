#include "kernels/attention/softmax_body.h"

namespace graft::kernels::cpu {

template <class Element>
void SoftmaxScalar::forward(const SoftmaxForward<Element>& arguments) {
  softmax_of<PlainSet>(arguments);
}
template <class Element>
void SoftmaxScalar::backward(const SoftmaxBackward<Element>& arguments) {
  softmax_backward_of<PlainSet>(arguments);
}

template void SoftmaxScalar::forward(const SoftmaxForward<float>&);
template void SoftmaxScalar::forward(const SoftmaxForward<Bf16Bits>&);
template void SoftmaxScalar::backward(const SoftmaxBackward<float>&);
template void SoftmaxScalar::backward(const SoftmaxBackward<Bf16Bits>&);

}  // namespace graft::kernels::cpu
