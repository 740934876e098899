// nf4_weight.h through the CUDA kernels (kernels/device.h). Private to this folder.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels::on_device {

// Of a dense weight: codes (ceil(count / 2)) U8 and the largest |w| of each block (ceil(count / 64)) f32, NaN where a value is.
// The bits are the processor's. The host may read both at once.
void nf4_quantize(const at::Tensor& weight, at::Tensor codes, at::Tensor scales);

}  // namespace graft::kernels::on_device
