// rope.h through the CUDA kernel (kernels/device.h); arguments are checked by rope.cpp. Private to this folder.
#pragma once

#include "kernels/rope/rope.h"

namespace graft::kernels::on_device {

void rope(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin, float direction);  // 1 or -1

}  // namespace graft::kernels::on_device
