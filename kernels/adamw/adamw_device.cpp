#include "kernels/adamw/adamw_device.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/device.h"
#include "kernels/launchers.h"

namespace graft::kernels::on_device {
namespace {

// (1) f64, where the step reads it.
at::Tensor norm_of(const at::Tensor& gradients) {
  const auto f64 = gradients.options().dtype(at::kDouble);
  const at::Tensor partial = at::empty({cuda::kNormBlocks}, f64), norm = at::empty({1}, f64);
  const cuda::GradientNorm arguments{.gradients = gradients.const_data_ptr<float>(),
                                     .partial = partial.mutable_data_ptr<double>(),
                                     .norm = norm.mutable_data_ptr<double>(),
                                     .count = gradients.numel()};
  check_launch("graft_gradient_norm", launchers().gradient_norm(arguments, stream()));
  return norm;
}

}  // namespace

double global_norm(const at::Tensor& gradients) {
  const at::Tensor norm = norm_of(gradients);
  wait_for_device();
  return *norm.const_data_ptr<double>();
}

AdamWResult adamw_step(at::Tensor parameters, const at::Tensor& gradients, at::Tensor m, at::Tensor v, std::int64_t t,
                       const AdamWOptions& options) {
  const at::Tensor norm = norm_of(gradients);
  const cuda::AdamWStep arguments{.parameters = parameters.mutable_data_ptr<float>(),
                                  .m = m.mutable_data_ptr<float>(),
                                  .v = v.mutable_data_ptr<float>(),
                                  .gradients = gradients.const_data_ptr<float>(),
                                  .norm = norm.const_data_ptr<double>(),
                                  .count = parameters.numel(),
                                  .t = t,
                                  .lr = options.lr,
                                  .beta1 = options.beta1,
                                  .beta2 = options.beta2,
                                  .eps = options.eps,
                                  .weight_decay = options.weight_decay,
                                  .max_norm = options.max_norm};
  check_launch("graft_adamw_step", launchers().adamw_step(arguments, stream()));
  wait_for_device();
  const double value = *norm.const_data_ptr<double>();
  return {value, std::isfinite(value)};
}

}  // namespace graft::kernels::on_device
