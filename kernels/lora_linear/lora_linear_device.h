// lora_linear.h on a device (kernels/device.h): dropout, a weight in NF4 as numbers and, in bf16 with a rank of at most 64, S, dA
// and dB through the CUDA kernels; every other product is the library's (kernels/gemm). Arguments are checked by lora_linear.cpp.
// Private to this folder.
#pragma once

#include "kernels/lora_linear/lora_linear.h"

namespace graft::kernels::on_device {

void lora_group_forward(const std::vector<at::Tensor>& y, const at::Tensor& x, const std::vector<LoraPart>& parts);
// dx: written when it is defined; then input makes X of it.
void lora_group_backward(const std::vector<at::Tensor>& dy, const std::vector<LoraPart>& parts, at::Tensor dx,
                         const InputFromGradient& input);

}  // namespace graft::kernels::on_device
