#include "kernels/linear_cross_entropy/linear_cross_entropy_device.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/launchers.h"

namespace graft::kernels::on_device {

void cross_entropy_rows(at::Tensor logits, const std::int64_t* labels, const float* weights, double* loss, double* logprob,
                        const LinearCrossEntropyOptions& options) {
  const std::int64_t rows = logits.size(0);
  const at::Tensor losses = at::empty({rows}, logits.options().dtype(at::kFloat)), logprobs = at::empty_like(losses);
  Lent lent{logits, losses, logprobs};
  lent.add(labels, static_cast<std::size_t>(rows) * sizeof *labels, sizeof *labels);
  if (weights != nullptr) lent.add(weights, static_cast<std::size_t>(rows) * sizeof *weights, sizeof *weights);
  const cuda::CrossEntropyRows arguments{.logits = logits.mutable_data_ptr(),
                                         .labels = labels,
                                         .row_weight = weights,
                                         .loss = losses.mutable_data_ptr<float>(),
                                         .logprob = logprobs.mutable_data_ptr<float>(),
                                         .stride = logits.stride(0),
                                         .rows = rows,
                                         .columns = logits.size(1),
                                         .softcap = static_cast<float>(options.softcap),
                                         .z_loss = static_cast<float>(options.z_loss),
                                         .smoothing = static_cast<float>(options.label_smoothing),
                                         .grad_scale = static_cast<float>(options.grad_scale),
                                         .want_grad = options.want_grad};
  check_launch("graft_cross_entropy_rows", launchers().cross_entropy_rows(device_type(logits), arguments, nullptr));
  std::copy_n(losses.const_data_ptr<float>(), rows, loss);
  std::copy_n(logprobs.const_data_ptr<float>(), rows, logprob);
}

}  // namespace graft::kernels::on_device
