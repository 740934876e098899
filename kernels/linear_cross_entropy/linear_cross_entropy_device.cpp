#include "kernels/linear_cross_entropy/linear_cross_entropy_device.h"

#include "kernels/launchers.h"

namespace graft::kernels::on_device {

void cross_entropy_rows(at::Tensor logits, const at::Tensor& labels, const at::Tensor& weights, at::Tensor loss,
                        at::Tensor logprob, const LinearCrossEntropyOptions& options) {
  const cuda::CrossEntropyRows arguments{.logits = logits.mutable_data_ptr(),
                                         .labels = labels.const_data_ptr<std::int64_t>(),
                                         .row_weight = weights.defined() ? weights.const_data_ptr<float>() : nullptr,
                                         .loss = loss.mutable_data_ptr<float>(),
                                         .logprob = logprob.mutable_data_ptr<float>(),
                                         .stride = logits.stride(0),
                                         .rows = logits.size(0),
                                         .columns = logits.size(1),
                                         .softcap = static_cast<float>(options.softcap),
                                         .z_loss = static_cast<float>(options.z_loss),
                                         .smoothing = static_cast<float>(options.label_smoothing),
                                         .grad_scale = static_cast<float>(options.grad_scale),
                                         .want_grad = options.want_grad};
  check_launch("graft_cross_entropy_rows", launchers().cross_entropy_rows(device_type(logits), arguments, stream()));
}

}  // namespace graft::kernels::on_device
