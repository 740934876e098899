#include "export/quantize/rounding.h"

#include <ATen/ATen.h>

namespace graft::exports {

at::Tensor Rounded::values() const {
  at::Tensor grouped = codes.view({codes.size(0), grid.scale.size(1), -1});
  if (grid.zero.defined()) grouped = grouped - grid.zero.unsqueeze(2);
  return (grouped * grid.scale.unsqueeze(2)).view(codes.sizes());
}

Rounded rounded_to_nearest(const at::Tensor& weight, const model::CompressedScheme& scheme) {
  Grid grid = grid_of(weight, scheme);
  at::Tensor codes = codes_on(grid, weight, scheme);
  return {std::move(grid), std::move(codes)};
}

RoundLinear to_nearest(const model::CompressedScheme& scheme) {
  return [scheme](const model::TensorSpec&, const at::Tensor& weight) { return rounded_to_nearest(weight, scheme); };
}

}  // namespace graft::exports
