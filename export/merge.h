// The model as it is served: the frozen base with the adapter folded in, any rows of a tensor at a time.
//
//   W' = round_storage(W) + scale * B A      in f32; round_storage is what the trainer did to the base
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "export/fold.h"
#include "lora/adapter.h"
#include "model/tensors.h"
#include "model/weights.h"

namespace graft::exports {

class MergedModel {
 public:
  // adapter may be null: the base alone. DataError when the adapter is for another base. folds: see export/fold.h.
  MergedModel(const model::WeightSource& base, const lora::AdapterSet* adapter, at::ScalarType storage, Folds folds = {});

  const model::WeightSource& base() const { return base_; }
  const model::ModelSpec& spec() const { return base_.spec(); }
  at::ScalarType storage() const { return storage_; }
  // In the order of the model. A head tied to the embedding is not listed, even when the file has a copy of it.
  const std::vector<model::TensorSpec>& tensors() const { return tensors_; }
  const model::TensorSpec* find(const std::string& name) const;  // null when it is not listed
  // f32, contiguous, of the listed shape; the same bits whole or in pieces. On all threads.
  at::Tensor load(const std::string& name) const;
  // Rows [begin, end) of it. Any number of threads may ask at once.
  at::Tensor rows(const model::TensorSpec& tensor, std::int64_t begin, std::int64_t end) const;

 private:
  const model::WeightSource& base_;
  const lora::AdapterSet* adapter_;
  at::ScalarType storage_;
  Folds folds_;
  std::vector<model::TensorSpec> tensors_;
  std::unordered_map<std::string, std::size_t> index_;  // by name; a mixture has thousands of tensors
  std::unordered_set<std::string> exact_;               // tensors that rounding to storage does not change
};

}  // namespace graft::exports
