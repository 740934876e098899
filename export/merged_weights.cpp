#include "export/merged_weights.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/file.h"
#include "export/manifest.h"

namespace graft::exports {

MergedWeights::MergedWeights(const model::WeightSource& base, const lora::AdapterSet& adapter, at::ScalarType storage)
    : merged_(base, &adapter, storage),
      identity_(sha256_hex(cat(base.identity(), "+", adapter_hash(adapter), " merged ", c10::toString(storage)))) {
  for (const model::TensorSpec& tensor : merged_.tensors()) weights_.push_back({tensor.name, tensor.shape, "BF16"});
}

at::Tensor MergedWeights::load(const std::string& name, at::ScalarType type) const {
  return merged_.load(name).to(at::kBFloat16).to(type);
}

}  // namespace graft::exports
