#include "kernels/row_rounding/row_rounding.h"

#include <ATen/ATen.h>

#include "kernels/check.h"
#include "kernels/device.h"

namespace graft::kernels {

namespace {

constexpr double kLargestE4M3 = 448;
constexpr std::int64_t kGroup = 128;

// Each row of the result shares a scale.
at::Tensor by_scale(const at::Tensor& wide, RowRounding rounding) {
  if (rounding != RowRounding::fp8_by_128) return wide;
  const std::int64_t columns = wide.size(1), groups = (columns + kGroup - 1) / kGroup;
  return at::constant_pad_nd(wide, {0, groups * kGroup - columns}).view({-1, kGroup});
}

}  // namespace

at::Tensor rounded_rows(const at::Tensor& x, RowRounding rounding, float fixed) {
  if (rounding == RowRounding::none || x.numel() == 0) return x;
  const c10::InferenceMode no_autograd;
  check_dim("rounded_rows", "x", x, 2);
  check_float_or_bf16("rounded_rows", "x", x);
  wait_for_device();
  const at::Tensor wide = by_scale(x.to(at::kFloat), rounding);
  at::Tensor scale = wide.abs().amax({1}, true);
  const at::Tensor broken = scale.isfinite().logical_not();
  if (fixed > 0)
    scale.fill_(fixed);
  else
    scale.div_(rounding == RowRounding::int8 ? 127 : kLargestE4M3).masked_fill_(scale == 0, 1);
  at::Tensor codes = wide / scale;
  codes = rounding == RowRounding::int8 ? codes.round_().clamp_(-127, 127)
                                        : codes.clamp_(-kLargestE4M3, kLargestE4M3).to(at::kFloat8_e4m3fn).to(at::kFloat);
  codes.mul_(scale).masked_fill_(broken, std::numeric_limits<float>::quiet_NaN());
  return codes.view({x.size(0), -1}).narrow(1, 0, x.size(1)).to(x.scalar_type()).contiguous();
}

}  // namespace graft::kernels
