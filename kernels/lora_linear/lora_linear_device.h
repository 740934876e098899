// lora_linear.h through the CUDA kernels (kernels/device.h): dropout and, in bf16 with a rank of at most 64, S, dS, dA and dB.
// The frozen product and the update S B^T, dS A are the library's. Arguments are checked by lora_linear.cpp. Private to this
// folder.
#pragma once

#include "kernels/lora_linear/lora_linear.h"

namespace graft::kernels::on_device {

void lora_linear_forward(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const LowRank* adapter, LoraLinearSaved* saved);
at::Tensor lora_linear_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                const LoraLinearSaved& saved, bool need_dx, at::Tensor dx);

}  // namespace graft::kernels::on_device
