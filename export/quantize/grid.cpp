#include "export/quantize/grid.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace graft::exports {
namespace {

constexpr double kLargestE4M3 = 448, kScaleOfZeros = 0x1p-7;

double lowest_code(const model::CompressedScheme& scheme) { return -static_cast<double>(1 << (scheme.bits - 1)); }

at::Tensor by_groups(const at::Tensor& x, const model::CompressedScheme& scheme) {
  const std::int64_t groups = scheme.groups(x.size(1));
  return x.view({x.size(0), groups, x.size(1) / groups});
}

}  // namespace

Grid grid_of(const at::Tensor& x, const model::CompressedScheme& scheme) {
  const at::Tensor grouped = by_groups(x, scheme);
  const at::Tensor low = grouped.amin(2).clamp_max(0), high = grouped.amax(2).clamp_min(0);
  if (!low.isfinite().logical_and(high.isfinite()).all().item<bool>()) throw DataError("a weight is not finite");
  const double steps = (1 << scheme.bits) - 1;
  Grid grid;
  grid.scale = scheme.format == model::CompressedFormat::floating ? at::maximum(-low, high) / kLargestE4M3
               : scheme.symmetric                                 ? at::maximum(-low, high) / (steps / 2)
                                                                  : (high - low) / steps;
  grid.scale = grid.scale.to(at::kBFloat16).to(at::kFloat);
  grid.scale.masked_fill_(grid.scale == 0, kScaleOfZeros);
  if (!scheme.symmetric)
    grid.zero = at::round(lowest_code(scheme) - low / grid.scale).clamp_(lowest_code(scheme), -lowest_code(scheme) - 1);
  return grid;
}

at::Tensor codes_on(const Grid& grid, const at::Tensor& x, const model::CompressedScheme& scheme) {
  at::Tensor codes = by_groups(x, scheme) / grid.scale.unsqueeze(2);
  if (grid.zero.defined()) codes.add_(grid.zero.unsqueeze(2));
  if (scheme.format == model::CompressedFormat::floating)
    return codes.clamp_(-kLargestE4M3, kLargestE4M3).to(at::kFloat8_e4m3fn).to(at::kFloat).view(x.sizes());
  return codes.clamp_(lowest_code(scheme), -lowest_code(scheme) - 1).round_().view(x.sizes());
}

model::CompressedWeight compressed(const Grid& grid, const at::Tensor& codes, const model::CompressedScheme& scheme) {
  model::CompressedWeight weight;
  weight.scale = grid.scale.to(at::kBFloat16);
  switch (scheme.format) {
    case model::CompressedFormat::packed:
      weight.codes = model::pack_codes(codes.to(at::kChar), scheme.bits);
      if (grid.zero.defined())
        weight.zero_point = model::pack_codes(grid.zero.to(at::kChar).t().contiguous(), scheme.bits).t().contiguous();
      break;
    case model::CompressedFormat::integer:
      weight.codes = codes.to(at::kChar);
      break;
    case model::CompressedFormat::floating:
      weight.codes = codes.to(at::kFloat8_e4m3fn);
      break;
  }
  return weight;
}

}  // namespace graft::exports
