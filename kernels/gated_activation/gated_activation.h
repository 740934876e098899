// The gated linear unit of the MLP (Shazeer 2020, arXiv:2002.05202): h = act(e) g, e the gate and g the up projection.
//
//   silu:      act(e) = e s,  s = 1 / (1 + exp(-e));                 act'(e) = s (1 + e (1 - s))
//   gelu_tanh: act(e) = e (1 + t) / 2,  t = tanh(k (e + 0.044715 e^3)), k = sqrt(2 / pi);
//              act'(e) = (1 + t) / 2 + e (1 - t^2) k (1 + 3 * 0.044715 e^2) / 2
//   backward:  de = dh g act'(e),  dg = dh act(e)
//
// Shapes: e, g, h (M, F), all f32 or all bf16; e and g may be halves of one (M, 2F) buffer (dense rows, any row stride).
// Computed in f32 and rounded once. No reductions: same bits always.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

enum class Activation { silu, gelu_tanh };

at::Tensor gated_activation_forward(const at::Tensor& gate, const at::Tensor& up, Activation activation);

// Overwrites gate with de, up with dg, and dh with h, which the linear behind it wants once more for its adapter: no pass of its
// own makes it again.
void gated_activation_backward(at::Tensor dh, at::Tensor gate, at::Tensor up, Activation activation);

}  // namespace graft::kernels
