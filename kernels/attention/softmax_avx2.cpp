#include "kernels/attention/softmax_body.h"

namespace graft::kernels::cpu {

template <class Element>
void SoftmaxAvx2::forward(const SoftmaxForward<Element>& arguments) {
  softmax_of<PlainSet>(arguments);
}
template <class Element>
void SoftmaxAvx2::backward(const SoftmaxBackward<Element>& arguments) {
  softmax_backward_of<PlainSet>(arguments);
}

template void SoftmaxAvx2::forward(const SoftmaxForward<float>&);
template void SoftmaxAvx2::forward(const SoftmaxForward<Bf16Bits>&);
template void SoftmaxAvx2::backward(const SoftmaxBackward<float>&);
template void SoftmaxAvx2::backward(const SoftmaxBackward<Bf16Bits>&);

}  // namespace graft::kernels::cpu
