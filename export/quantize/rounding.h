// How a linear's weights become codes on the grid of a scheme (export/quantize/grid.h). Layouts take the function that decides:
// to the nearest point, or by what calibration documents say (export/calibration.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "export/quantize/grid.h"
#include "model/tensors.h"

namespace graft::exports {

struct Rounded {
  Grid grid;
  at::Tensor codes;           // f32 (out, in): whole numbers, or values that e4m3 holds
  at::Tensor values() const;  // (codes - zero) * scale, f32: what is read back
};

// `tensor` is "<module>.weight", `weight` its values, f32 (out, in). Tensors come in the order of the model, each once.
using RoundLinear = std::function<Rounded(const model::TensorSpec& tensor, const at::Tensor& weight)>;

Rounded rounded_to_nearest(const at::Tensor& weight, const model::CompressedScheme& scheme);
RoundLinear to_nearest(const model::CompressedScheme& scheme);

}  // namespace graft::exports
