// The rows of linear_cross_entropy.h through the CUDA kernel (kernels/device.h). Private to this folder.
#pragma once

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

namespace graft::kernels::on_device {

// logits (rows, V) become their gradient with options.want_grad; labels (rows), all in the vocabulary; weights (rows) or null;
// loss and logprob (rows) are written.
void cross_entropy_rows(at::Tensor logits, const std::int64_t* labels, const float* weights, double* loss, double* logprob,
                        const LinearCrossEntropyOptions& options);

}  // namespace graft::kernels::on_device
