// gated_activation.h through the CUDA kernels (kernels/device.h); arguments are checked and outputs made by gated_activation.cpp.
// Private to this folder.
#pragma once

#include "kernels/gated_activation/gated_activation.h"

namespace graft::kernels::on_device {

void gated_activation_forward(const at::Tensor& gate, const at::Tensor& up, Activation activation, at::Tensor h);
void gated_activation_backward(at::Tensor dh, at::Tensor gate, at::Tensor up, Activation activation);

}  // namespace graft::kernels::on_device
