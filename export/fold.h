// Scales of channels moved from one tensor into the one before it. Channel c of an input is divided by s_c where it is written,
// a norm's gain or the rows of a linear, and the columns c of everything that reads it are multiplied by s_c: the model computes
// the same, and its weights are easier to round (AWQ, Lin et al. 2023, arXiv:2306.00978; SmoothQuant, Xiao et al. 2022,
// arXiv:2211.10438).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "model/spec.h"

namespace graft::exports {

// A place where that can be done. Names are modules: "model.layers.0.mlp.up_proj".
struct FoldSite {
  std::string writer;                       // a norm, or a linear
  bool norm = false;                        // which of them
  std::int64_t first_row = 0;               // of the linear's rows: where the channels begin (v in a fused qkv, up in gate_up)
  std::vector<std::string> readers = {};    // linears that are quantized
  std::vector<std::string> followers = {};  // read it too, and are not quantized: the experts' router
};

// Of one layer: the norms before attention and MLP, and where `linears` is set v before o (as many heads in v as in q) and up
// before down.
std::vector<FoldSite> fold_sites(const model::ModelSpec& spec, std::int64_t layer, bool linears);

class Folds {
 public:
  // scales: f32 (channels), finite and above zero. gain: what the norm multiplies with, 1 included where it is stored without
  // (Gemma); the scales are changed within the rounding of the norm to bf16, such that the product stays what it is.
  void add_norm(const FoldSite& site, at::Tensor scales, const at::Tensor& gain, double gain_offset);
  // rows: of the writer's weight.
  void add_linear(const FoldSite& site, const at::Tensor& scales, std::int64_t rows);

  // A tensor of the model ("<module>.weight", "<module>.bias"), f32, as it is after the folds; or those of its rows that begin
  // with row `begin`.
  at::Tensor apply(const std::string& tensor, const at::Tensor& values, std::int64_t begin = 0) const;
  // Of rows of a linear's weight: takes the scales out again.
  at::Tensor undo(const std::string& tensor, const at::Tensor& rows, std::int64_t begin = 0) const;

 private:
  void add_readers(const FoldSite& site, const at::Tensor& scales);

  std::map<std::string, at::Tensor> columns_, rows_;  // by tensor: factors
  std::map<std::string, at::Tensor> norms_;           // by tensor: stored values
};

}  // namespace graft::exports
