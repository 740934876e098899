#include "kernels/rms_norm/rms_norm_device.h"

#include "kernels/launchers.h"

namespace graft::kernels::on_device {

void rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, const RmsNormOptions& options, at::Tensor y, at::Tensor rstd,
                      const at::Tensor& residual) {
  const bool add = residual.defined();
  const cuda::RmsNormForward arguments{.x = x.const_data_ptr(),
                                       .residual = add ? residual.const_data_ptr() : nullptr,
                                       .weight = weight.const_data_ptr(),
                                       .sum = add ? x.mutable_data_ptr() : nullptr,
                                       .y = y.mutable_data_ptr(),
                                       .rstd = rstd.mutable_data_ptr<float>(),
                                       .x_stride = x.stride(0),
                                       .residual_stride = add ? residual.stride(0) : 0,
                                       .sum_stride = add ? x.stride(0) : 0,
                                       .y_stride = y.stride(0),
                                       .rows = x.size(0),
                                       .columns = x.size(1),
                                       .eps = static_cast<float>(options.eps),
                                       .gain_offset = static_cast<float>(options.gain_offset),
                                       .gain_in_f32 = options.gain_in_f32};
  check_launch("graft_rms_norm_forward", launchers().rms_norm_forward(device_type(x), arguments, stream()));
}

void rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                       const RmsNormOptions& options, at::Tensor dx, bool add) {
  const cuda::RmsNormBackward arguments{.dy = dy.const_data_ptr(),
                                        .x = x.const_data_ptr(),
                                        .weight = weight.const_data_ptr(),
                                        .rstd = rstd.const_data_ptr<float>(),
                                        .dx = dx.mutable_data_ptr(),
                                        .dy_stride = dy.stride(0),
                                        .x_stride = x.stride(0),
                                        .dx_stride = dx.stride(0),
                                        .rows = x.size(0),
                                        .columns = x.size(1),
                                        .gain_offset = static_cast<float>(options.gain_offset),
                                        .add_to_dx = add};
  check_launch("graft_rms_norm_backward", launchers().rms_norm_backward(device_type(x), arguments, stream()));
}

}  // namespace graft::kernels::on_device
