#include "kernels/nf4/nf4_device.h"

#include <ATen/ATen.h>

#include "kernels/device.h"
#include "kernels/launchers.h"

namespace graft::kernels::on_device {

void nf4_quantize(const at::Tensor& weight, at::Tensor codes, at::Tensor scales) {
  const at::Tensor there = weight.clone();  // a mapped file is not where kernels read
  const cuda::Nf4Quantize arguments{.weight = there.const_data_ptr(),
                                    .codes = codes.mutable_data_ptr<std::uint8_t>(),
                                    .scales = scales.mutable_data_ptr<float>(),
                                    .count = there.numel()};
  check_launch("graft_nf4_quantize", launchers().nf4_quantize(device_type(there), arguments, stream()));
  wait_for_device();
}

}  // namespace graft::kernels::on_device
