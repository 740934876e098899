#include "export/merge.h"

#include <ATen/ATen.h>

namespace graft::exports {

MergedModel::MergedModel(const model::WeightSource& base, const lora::AdapterSet* adapter, at::ScalarType storage, Folds folds)
    : base_(base), adapter_(adapter), storage_(storage), folds_(std::move(folds)), tensors_(model::tensors_of(base.spec())) {
  if (adapter) lora::check_base(*adapter, base);
}

at::Tensor MergedModel::load(const std::string& name) const {
  constexpr std::string_view suffix = ".weight";
  at::Tensor weight = base_.load(name, storage_).to(at::kFloat);
  if (adapter_ && name.ends_with(suffix))
    weight = lora::merged_weight(*adapter_, name.substr(0, name.size() - suffix.size()), weight);
  return folds_.apply(name, weight).contiguous();
}

}  // namespace graft::exports
