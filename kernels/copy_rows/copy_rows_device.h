// copy_rows.h through the CUDA kernels (kernels/device.h); arguments are checked and y made by copy_rows.cpp. Private to this
// folder.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels::on_device {

void copy_rows(at::Tensor y, const at::Tensor& x, const std::int64_t* index, float scale);  // index may be null

}  // namespace graft::kernels::on_device
