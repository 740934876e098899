// The table of tensors that a ModelSpec implies: Hugging Face name, GGUF name, shape, and what GGUF does to the values. The one
// place that knows names; readers, exporters and the parameter count go through it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/spec.h"

namespace graft::model {

struct TensorSpec {
  std::string name, gguf;           // "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"
  std::vector<std::int64_t> shape;  // torch order; of one expert for expert weights
  std::int64_t expert = -1;         // index in GGUF's stack (experts, ...); -1: not stacked
  std::int64_t rotary_heads = 0;    // q and k: number of heads whose rows GGUF may interleave
  bool norm = false;                // stored as 1 + w in GGUF when spec.norm_gain_offset is 1
};

// In the order of the model: embedding, layers, final norm, head (absent when tied).
std::vector<TensorSpec> tensors_of(const ModelSpec& spec);

struct LinearSpec {
  std::string module;        // "model.layers.0.self_attn.q_proj"
  std::int64_t expert = -1;  // which this is part of; -1: none
};
// What adapters may be on, in the order of the model: every matrix but the embedding and the routers.
std::vector<LinearSpec> linears_of(const ModelSpec& spec);

}  // namespace graft::model
