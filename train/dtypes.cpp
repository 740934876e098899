#include "train/dtypes.h"

#include "model/compute_type.h"

namespace graft::train {

Dtypes dtypes_of(const TrainConfig& config, const std::optional<Pins>& began) {
  if (config.dtype == "fp32") return {at::kFloat, at::kFloat};
  if (config.dtype == "bf16") return {at::kBFloat16, at::kBFloat16};
  if (!began) return {at::kBFloat16, model::fastest_compute_type()};
  return {at::kBFloat16, began->text("compute_dtype") == model::name_of(at::kBFloat16) ? at::kBFloat16 : at::kFloat};
}

}  // namespace graft::train
