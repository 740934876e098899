// The table of tensors that a ModelSpec implies: Hugging Face name, GGUF name, shape, and what GGUF does to the values. The one
// place that knows names; readers, exporters and the parameter count go through it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/spec.h"

namespace graft::model {

// Linears are those of the layers, the ones that adapters, codes and grids are for; routers and the head are none. Norms are
// stored as 1 + w in GGUF when spec.norm_gain_offset is 1.
enum class TensorRole { embedding, norm, linear, bias, router, head };

struct TensorSpec {
  std::string name, gguf;           // "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"
  std::vector<std::int64_t> shape;  // torch order; of one expert for expert weights
  TensorRole role = TensorRole::linear;
  std::int64_t expert = -1;       // index in GGUF's stack (experts, ...); -1: not stacked
  std::int64_t rotary_heads = 0;  // q and k: number of heads whose rows GGUF may interleave
};

// In the order of the model: embedding, layers, final norm, head (absent when tied).
std::vector<TensorSpec> tensors_of(const ModelSpec& spec);

// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight"; empty for what is no weight (a bias).
std::string module_of(const std::string& tensor);

struct LinearSpec {
  std::string module;        // "model.layers.0.self_attn.q_proj"
  std::int64_t expert = -1;  // which this is part of; -1: none
};
// What adapters may be on, in the order of the model: the linears and the head.
std::vector<LinearSpec> linears_of(const ModelSpec& spec);

}  // namespace graft::model
