#include "kernels/gated_activation/gated_activation_device.h"

#include "kernels/launchers.h"

namespace graft::kernels::on_device {
namespace {

int number_of(Activation activation) { return activation == Activation::silu ? 0 : 1; }

}  // namespace

void gated_activation_forward(const at::Tensor& gate, const at::Tensor& up, Activation activation, at::Tensor h) {
  const cuda::GatedForward arguments{.gate = gate.const_data_ptr(),
                                     .up = up.const_data_ptr(),
                                     .h = h.mutable_data_ptr(),
                                     .gate_stride = gate.stride(0),
                                     .up_stride = up.stride(0),
                                     .h_stride = h.stride(0),
                                     .rows = gate.size(0),
                                     .columns = gate.size(1),
                                     .activation = number_of(activation)};
  check_launch("graft_gated_forward", launchers().gated_forward(device_type(gate), arguments, stream()));
}

void gated_activation_backward(at::Tensor dh, at::Tensor gate, at::Tensor up, Activation activation) {
  const cuda::GatedBackward arguments{.dh = dh.mutable_data_ptr(),
                                      .gate = gate.mutable_data_ptr(),
                                      .up = up.mutable_data_ptr(),
                                      .dh_stride = dh.stride(0),
                                      .gate_stride = gate.stride(0),
                                      .up_stride = up.stride(0),
                                      .rows = gate.size(0),
                                      .columns = gate.size(1),
                                      .activation = number_of(activation)};
  check_launch("graft_gated_backward", launchers().gated_backward(device_type(gate), arguments, stream()));
}

}  // namespace graft::kernels::on_device
