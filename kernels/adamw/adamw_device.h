// adamw.h through the CUDA kernels (kernels/device.h); arguments are checked by adamw.cpp. Private to this folder.
#pragma once

#include "kernels/adamw/adamw.h"

namespace graft::kernels::on_device {

double global_norm(const at::Tensor& gradients);
AdamWResult adamw_step(at::Tensor parameters, const at::Tensor& gradients, at::Tensor m, at::Tensor v, std::int64_t t,
                       const AdamWOptions& options);

}  // namespace graft::kernels::on_device
