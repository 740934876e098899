#include "kernels/rope/rope_device.h"

#include "kernels/launchers.h"

namespace graft::kernels::on_device {

void rope(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin, float direction) {
  const cuda::Rope arguments{.x = x.mutable_data_ptr(),
                             .cos = cos.const_data_ptr<float>(),
                             .sin = sin.const_data_ptr<float>(),
                             .token_stride = x.stride(0),
                             .head_stride = x.stride(1),
                             .tokens = x.size(0),
                             .heads = x.size(1),
                             .half = cos.size(1),
                             .direction = direction};
  check_launch("graft_rope", launchers().rope(device_type(x), arguments, stream()));
}

}  // namespace graft::kernels::on_device
