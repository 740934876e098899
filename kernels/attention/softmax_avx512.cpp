#include "kernels/attention/softmax_body.h"

namespace graft::kernels::cpu {

void SoftmaxAvx512::forward(const SoftmaxForward<float>& arguments) { softmax_of<FloatSet>(arguments); }
void SoftmaxAvx512::backward(const SoftmaxBackward<float>& arguments) { softmax_backward_of<FloatSet>(arguments); }

}  // namespace graft::kernels::cpu
