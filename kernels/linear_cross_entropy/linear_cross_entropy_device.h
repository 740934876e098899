// The rows of linear_cross_entropy.h through the CUDA kernel (kernels/device.h). Private to this folder.
#pragma once

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

namespace graft::kernels::on_device {

// logits (rows, V) become their gradient with options.want_grad; labels (rows), all in the vocabulary; weights (rows) f32 or
// undefined; loss and logprob (rows) f32 are written.
void cross_entropy_rows(at::Tensor logits, const at::Tensor& labels, const at::Tensor& weights, at::Tensor loss,
                        at::Tensor logprob, const LinearCrossEntropyOptions& options);

}  // namespace graft::kernels::on_device
