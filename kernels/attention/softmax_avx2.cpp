#include "kernels/attention/softmax_body.h"

namespace graft::kernels::cpu {

void SoftmaxAvx2::forward(const SoftmaxForward<float>& arguments) { softmax_of<FloatSet>(arguments); }
void SoftmaxAvx2::backward(const SoftmaxBackward<float>& arguments) { softmax_backward_of<FloatSet>(arguments); }

}  // namespace graft::kernels::cpu
