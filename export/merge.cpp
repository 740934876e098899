#include "export/merge.h"

#include <ATen/ATen.h>

#include <cstring>
#include <stdexcept>

#include "core/error.h"
#include "export/pieces.h"

namespace graft::exports {

MergedModel::MergedModel(const model::WeightSource& base, const lora::AdapterSet* adapter, at::ScalarType storage, Folds folds)
    : base_(base), adapter_(adapter), storage_(storage), folds_(std::move(folds)), tensors_(model::tensors_of(base.spec())) {
  if (adapter) lora::check_shapes(*adapter, base);
  for (const model::WeightInfo& weight : base.weights())
    if (storage == at::kFloat || weight.stored_as == "BF16") exact_.insert(weight.name);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const model::TensorSpec* MergedModel::find(const std::string& name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? nullptr : &tensors_[at->second];
}

at::Tensor MergedModel::rows(const model::TensorSpec& tensor, std::int64_t begin, std::int64_t end) const {
  const at::ScalarType type = exact_.contains(tensor.name) ? at::kFloat : storage_;
  const at::Tensor weight = base_.load_rows(tensor.name, begin, end, type).to(at::kFloat).contiguous();
  const at::Tensor merged = adapter_ ? lora::merged_rows(*adapter_, model::module_of(tensor.name), begin, weight) : weight;
  return folds_.apply(tensor.name, merged, begin).contiguous();
}

at::Tensor MergedModel::load(const std::string& name) const {
  const model::TensorSpec* const tensor = find(name);
  if (tensor == nullptr) throw std::logic_error(cat("the model has no tensor ", name));
  const std::vector<RowRange> pieces = pieces_of(*tensor);
  if (pieces.size() == 1) return rows(*tensor, 0, tensor->shape[0]);
  at::Tensor whole = at::empty(tensor->shape, at::kFloat);
  auto* const values = whole.mutable_data_ptr<float>();
  on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const RowRange& piece = pieces[static_cast<std::size_t>(i)];
    const at::Tensor part = rows(*tensor, piece.begin, piece.end);
    std::memcpy(values + piece.begin * whole.stride(0), part.const_data_ptr(), part.nbytes());
  });
  return whole;
}

}  // namespace graft::exports
