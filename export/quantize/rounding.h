// How a linear's weights become codes on the grid of a scheme (export/quantize/grid.h). Layouts take the function that decides:
// to the nearest point, or by what calibration documents say (export/calibration.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "export/quantize/grid.h"
#include "model/tensors.h"

namespace graft::exports {

// The linears that lose most when they are rounded (docs/decisions/0023): q, k and v of every layer, and the MLP of the first and
// the last sixteenth of the layers. As targets of a compressed-tensors config.
std::vector<std::string> sensitive_linears(const model::ModelSpec& spec);

// The schemes of a model's linears: one for all, or another one for the sensitive ones.
struct LinearSchemes {
  model::CompressedScheme all = {};
  bool mixed = false;
  model::CompressedScheme sensitive = {};

  constexpr LinearSchemes() = default;
  constexpr LinearSchemes(const model::CompressedScheme& scheme) : all(scheme) {}
  constexpr LinearSchemes(const model::CompressedScheme& scheme, const model::CompressedScheme& of_sensitive)
      : all(scheme), mixed(true), sensitive(of_sensitive) {}

  std::function<model::CompressedScheme(const std::string& tensor)> of(const model::ModelSpec& spec) const;
};

struct Rounded {
  Grid grid;
  at::Tensor codes;           // f32 (out, in): whole numbers, or values that e4m3 holds
  at::Tensor values() const;  // (codes - zero) * scale, f32: what is read back
};

// `tensor` is "<module>.weight", `weight` its values, f32 (out, in). Tensors come in the order of the model, each once.
using RoundLinear = std::function<Rounded(const model::TensorSpec& tensor, const at::Tensor& weight)>;
// The grid of a tensor, where other tensors have a say in it.
using FindGrid = std::function<Grid(const model::TensorSpec& tensor)>;

Rounded rounded_to_nearest(const at::Tensor& weight, const model::CompressedScheme& scheme);
RoundLinear to_nearest(const LinearSchemes& schemes, const model::ModelSpec& spec);

}  // namespace graft::exports
