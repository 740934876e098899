#include "export/merge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>

#include "core/error.h"

namespace graft::exports {
namespace {

constexpr std::int64_t kPieceElements = 1 << 22;

}  // namespace

MergedModel::MergedModel(const model::WeightSource& base, const lora::AdapterSet* adapter, at::ScalarType storage, Folds folds)
    : base_(base), adapter_(adapter), storage_(storage), folds_(std::move(folds)), tensors_(model::tensors_of(base.spec())) {
  if (adapter) lora::check_base(*adapter, base);
  for (const model::WeightInfo& weight : base.weights())
    if (storage == at::kFloat || weight.stored_as == "BF16") exact_.insert(weight.name);
}

at::Tensor MergedModel::rows(const model::TensorSpec& tensor, std::int64_t begin, std::int64_t end) const {
  constexpr std::string_view suffix = ".weight";
  const at::ScalarType type = exact_.contains(tensor.name) ? at::kFloat : storage_;
  const at::Tensor weight = base_.load_rows(tensor.name, begin, end, type).to(at::kFloat).contiguous();
  if (!adapter_ || !tensor.name.ends_with(suffix)) return folds_.apply(tensor.name, weight, begin).contiguous();
  const std::string module = tensor.name.substr(0, tensor.name.size() - suffix.size());
  return folds_.apply(tensor.name, lora::merged_rows(*adapter_, module, begin, weight), begin).contiguous();
}

void MergedModel::visit_rows(const model::TensorSpec& tensor, const Visit& visit) const {
  const std::int64_t count = tensor.shape[0];
  std::int64_t step = count;
  if (tensor.shape.size() > 1) step = std::max<std::int64_t>(1, kPieceElements / tensor.shape.back());
  for (std::int64_t begin = 0; begin < count; begin += step) visit(begin, rows(tensor, begin, std::min(count, begin + step)));
}

at::Tensor MergedModel::load(const std::string& name) const {
  const auto tensor =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const model::TensorSpec& each) { return each.name == name; });
  if (tensor == tensors_.end()) throw std::logic_error(cat("the model has no tensor ", name));
  at::Tensor whole;
  visit_rows(*tensor, [&](std::int64_t begin, const at::Tensor& rows) {
    if (rows.size(0) == tensor->shape[0]) {
      whole = rows;
      return;
    }
    if (begin == 0) whole = at::empty(tensor->shape, at::kFloat);
    whole.narrow(0, begin, rows.size(0)).copy_(rows);
  });
  return whole;
}

}  // namespace graft::exports
