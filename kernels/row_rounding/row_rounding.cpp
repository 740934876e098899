#include "kernels/row_rounding/row_rounding.h"

#include <ATen/ATen.h>

#include "kernels/check.h"
#include "kernels/device.h"

namespace graft::kernels {

constexpr double kLargestE4M3 = 448;

at::Tensor rounded_rows(const at::Tensor& x, RowRounding rounding, float fixed) {
  if (rounding == RowRounding::none || x.numel() == 0) return x;
  const c10::InferenceMode no_autograd;
  check_dim("rounded_rows", "x", x, 2);
  check_float_or_bf16("rounded_rows", "x", x);
  wait_for_device();
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor scale = wide.abs().amax({1}, true);
  const at::Tensor broken = scale.isfinite().logical_not();
  if (fixed > 0)
    scale.fill_(fixed);
  else
    scale.div_(rounding == RowRounding::int8 ? 127 : kLargestE4M3).masked_fill_(scale == 0, 1);
  at::Tensor codes = wide / scale;
  codes = rounding == RowRounding::int8 ? codes.round_().clamp_(-127, 127)
                                        : codes.clamp_(-kLargestE4M3, kLargestE4M3).to(at::kFloat8_e4m3fn).to(at::kFloat);
  return codes.mul_(scale).masked_fill_(broken, std::numeric_limits<float>::quiet_NaN()).to(x.scalar_type());
}

}  // namespace graft::kernels
