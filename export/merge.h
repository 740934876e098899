// The model as it is served: the frozen base with the adapter folded in, tensor by tensor, so that memory stays around one.
//
//   W' = round_storage(W) + scale * B A      in f32; round_storage is what the trainer did to the base
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
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
  // In the order of the model. A head tied to the embedding is not listed, even when the file has a copy of it.
  const std::vector<model::TensorSpec>& tensors() const { return tensors_; }
  at::Tensor load(const std::string& name) const;  // f32, contiguous, of the listed shape

 private:
  const model::WeightSource& base_;
  const lora::AdapterSet* adapter_;
  at::ScalarType storage_;
  Folds folds_;
  std::vector<model::TensorSpec> tensors_;
};

}  // namespace graft::exports
