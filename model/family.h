// What a family file in model/families/ provides: how to read its config and how its tensors are named in GGUF.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/gguf.h"
#include "core/json.h"
#include "model/spec.h"

namespace graft::model {

struct Family {
  std::string_view name;                             // as the file
  std::vector<std::string_view> architectures;       // config.json "architectures" it answers to
  std::vector<std::string_view> gguf_architectures;  // "general.architecture" it answers to
  ModelSpec (*from_hf)(const Json& config, const std::string& origin);
  ModelSpec (*from_gguf)(const GgufFile& file);  // null when gguf_architectures is empty
  Json (*to_hf)(const ModelSpec& spec);          // config.json in transformers' v4 style
  bool gguf_permutes_qk = false;                 // rows of q and k are interleaved in GGUF (those converted as "llama")
};

std::span<const Family* const> all_families();
const Family& family_of_architecture(const std::string& architecture);  // UnsupportedError with the known names
const Family& family_of_gguf(const std::string& architecture);
const Family& family_named(const std::string& name);  // of a spec; an unknown name is our own fault
// "model.layers.3.self_attn.q_proj.weight" <-> "blk.3.attn_q.weight"; empty when the spec has no such tensor. GGUF stacks the
// experts of a layer in one tensor: every expert maps to the stack, and the stack's HF name is that of expert 0.
std::string gguf_name(const ModelSpec& spec, const std::string& hf_name);
std::string hf_name(const ModelSpec& spec, const std::string& gguf_name);

}  // namespace graft::model
