// rms_norm.h through the CUDA kernels (kernels/device.h); arguments are checked and outputs made by rms_norm.cpp. Private to this
// folder.
#pragma once

#include "kernels/rms_norm/rms_norm.h"

namespace graft::kernels::on_device {

void rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, const RmsNormOptions& options, at::Tensor y, at::Tensor rstd,
                      const at::Tensor& residual);  // residual may be undefined
void rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                       const RmsNormOptions& options, at::Tensor dx, bool add);

}  // namespace graft::kernels::on_device
