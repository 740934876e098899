#include "export/quantize/rounding.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "model/module_targets.h"
#include "model/scaled_codes.h"

namespace graft::exports {

std::vector<std::string> sensitive_linears(const model::ModelSpec& spec) {
  std::vector<std::string> targets;
  for (const char* name : {"q_proj", "k_proj", "v_proj", "qkv_proj"}) targets.push_back(cat("re:.*\\.", name, "$"));
  const std::size_t layers = spec.layers.size(), ends = (layers + 15) / 16;
  for (std::size_t layer = 0; layer < layers; ++layer)
    if (layer < ends || layer + ends >= layers) targets.push_back(cat("re:.*\\.layers\\.", layer, "\\.mlp\\..*"));
  return targets;
}

std::function<model::CompressedScheme(const std::string& tensor)> LinearSchemes::of(const model::ModelSpec& spec) const {
  if (!mixed) return [scheme = all](const std::string&) { return scheme; };
  return [*this, targets = model::ModuleTargets(sensitive_linears(spec), "")](const std::string& tensor) {
    return targets.names(model::module_of(tensor)) ? sensitive : all;
  };
}

at::Tensor Rounded::values() const { return model::scaled_codes(codes, grid.scale, grid.zero); }

Rounded rounded_to_nearest(const at::Tensor& weight, const model::CompressedScheme& scheme) {
  Grid grid = grid_of(weight, scheme);
  at::Tensor codes = codes_on(grid, weight, scheme);
  return {std::move(grid), std::move(codes)};
}

RoundLinear to_nearest(const LinearSchemes& schemes, const model::ModelSpec& spec) {
  return [of = schemes.of(spec)](const model::TensorSpec& tensor, const at::Tensor& weight) {
    return rounded_to_nearest(weight, of(tensor.name));
  };
}

}  // namespace graft::exports
