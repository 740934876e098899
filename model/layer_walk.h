// A model run one layer at a time, each layer loaded when its turn comes and dropped for the next: for work that looks at the
// inputs of every linear of a model that need not fit into memory (calibration).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace graft::model {

// Called before the products of linears that read the same x (rows, in): q, k and v; o; gate and up; down. An expert's see the
// rows sent to it, and are not called where there are none.
using SeeInputs = std::function<void(const std::vector<const Linear*>& linears, const at::Tensor& x)>;

class LayerWalk {
 public:
  // load: a tensor by its Hugging Face name, contiguous, in `compute`, of the shape that the spec says.
  static std::unique_ptr<LayerWalk> create(const ModelSpec& spec, at::ScalarType compute,
                                           std::function<at::Tensor(const std::string&)> load);
  virtual ~LayerWalk() = default;

  virtual at::Tensor embed(const at::Tensor& tokens) = 0;  // (T, H); DataError for an id beyond the vocabulary
  virtual void enter(std::int64_t layer) = 0;
  virtual std::vector<Linear*> linears() = 0;  // of that layer; their weights may be replaced
  // The layer's output (T, H). `batch` says which tokens belong together. see may be empty.
  virtual at::Tensor forward(const at::Tensor& hidden, const Packed& batch, const SeeInputs& see) = 0;
};

}  // namespace graft::model
