// attention.h through the CUDA kernels (kernels/device.h); arguments are checked and outputs made by attention.cpp. Private to
// this folder.
#pragma once

#include "kernels/attention/attention.h"

namespace graft::kernels::on_device {

// Whether there are CUDA kernels for these: heads of up to 256.
bool has_attention(const at::Tensor& q);

void attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                       const AttentionOptions& options, at::Tensor out, at::Tensor lse);
void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, std::span<const std::int32_t> starts,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv);

}  // namespace graft::kernels::on_device
