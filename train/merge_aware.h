// Merge-aware training: the last steps run on the weights that a server will have, the merged weight rounded to the grid Q of an
// export format, and gradients pass through the rounding as if it were not there (straight-through estimator; Bengio, Leonard,
// Courville 2013, arXiv:1308.3432).
//
//   forward    Y = X Q(W + s B A)^T
//   backward   dX = dY Q(W + s B A);  dB = s dY^T X A^T;  dA = s B^T dY^T X
//
// The decoder does not know: with W'' = Q(W + s B A) - s B A in the place of W, its forward X W''^T + s X A^T B^T is that product
// and its backward these gradients, up to the rounding of W'' to the compute type, which the weights of a server undergo too.
//
// A phase step begins by rounding every matrix with an adapter for the parameters as they are, others once: what a checkpoint
// must hold of it is the step. W is read again from the file, so that no second copy of the base is in memory. Dropout is off,
// for the low-rank path would then give back another part of s B A in each row than W'' went without.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lora/adapter.h"
#include "model/decoder.h"
#include "model/tensors.h"
#include "model/weights.h"
#include "train/config.h"

namespace graft::train {

// What a reader of the format gets back for rows of a merged matrix, f32 (n, columns), the first of which is row `begin`, a
// multiple of 128.
using Served = std::function<at::Tensor(const model::TensorSpec& tensor, std::int64_t begin, const at::Tensor& rows)>;

// The format of train.merge_aware, as train() is told of it.
struct ServedFormat {
  std::function<Served()> values;     // called before the model is loaded: some formats look at documents first. Empty: no phase
  std::int64_t calibration_rows = 0;  // that it looks at: what a run is depends on them
};

// Steps of the run before the phase: all but round(share * steps), at least one of which is in it. There is a phase.
std::int64_t steps_before_merge_aware(const TrainConfig& config, std::int64_t steps);

// Bytes that rounding takes beside the weights.
std::uint64_t merge_aware_bytes(const model::ModelSpec& spec);

class MergeAware {
 public:
  // first: steps before the phase. storage: what the decoder's base was rounded to. The adapters must be attached to the decoder.
  MergeAware(Served served, std::int64_t first, const model::WeightSource& base, at::ScalarType storage,
             lora::AdapterSet& adapters, model::Decoder& decoder);

  std::int64_t first() const { return first_; }
  bool begun(std::int64_t step) const { return step >= first_; }
  // To be called before any forward of the adapters as they are after `step` steps. Before the phase it does nothing. DataError
  // naming the tensor whose values the format cannot hold.
  void follow(std::int64_t step);

 private:
  struct Matrix {
    model::TensorSpec tensor;
    std::string module;  // with an adapter; else empty
    at::Tensor weight;   // the decoder's
  };
  void round(const Matrix& matrix) const;

  Served served_;
  std::int64_t first_;
  const model::WeightSource& base_;
  at::ScalarType storage_;
  lora::AdapterSet& adapters_;
  std::vector<Matrix> matrices_;
  std::int64_t rounded_for_ = -1;  // step
};

}  // namespace graft::train
