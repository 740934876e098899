// A set of low-rank adapters over the linears of one decoder. Parameters, gradients and both Adam moments live in four flat f32
// arenas in the order of the layers, so that the optimizer, the norm and a checkpoint are each one pass over one array.
//
// File layout: PEFT (docs/formats.md): adapter_config.json + adapter_model.safetensors,
//   base_model.model.<module path>.lora_A.weight (r, in) and .lora_B.weight (out, r).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "kernels/lora_linear/lora_linear.h"
#include "lora/config.h"
#include "model/decoder.h"

namespace graft::lora {

struct Adapter {
  std::string module;            // "model.layers.0.self_attn.q_proj"
  kernels::LowRank low_rank;     // views into the arenas
};

struct AdapterSet {
  LoraConfig config;
  std::vector<std::unique_ptr<Adapter>> adapters;
  at::Tensor parameters, gradients;  // (P) f32 flat; gradients undefined when loaded for inference
  std::int64_t count() const { return parameters.numel(); }
};

// Which linears the patterns choose. ConfigError when a pattern matches nothing, with the nearest module names.
std::vector<std::string> match_targets(const LoraConfig& config, const std::vector<std::string>& modules);

// A: Kaiming-uniform with a = sqrt(5) as PEFT (bound 1/sqrt(in)), from Random(seed, Stream::init, index); B: zero.
std::unique_ptr<AdapterSet> create(const LoraConfig& config, model::Decoder& decoder, std::uint64_t seed);
void attach(AdapterSet& set, model::Decoder& decoder);   // sets Linear::adapter; DataError when a module or shape does not fit
void detach(model::Decoder& decoder);

// PEFT directory. base: written as base_model_name_or_path. save writes into an existing directory (of a DirectoryWriter).
void save_peft(const AdapterSet& set, const std::filesystem::path& directory, const std::string& base);
std::unique_ptr<AdapterSet> load_peft(const std::filesystem::path& directory);

// W + scale * B A in f32 (N, K) for the tensor "<module>.weight"; returns W unchanged when the module has no adapter.
at::Tensor merged_weight(const AdapterSet& set, const std::string& module, const at::Tensor& weight_f32);

}  // namespace graft::lora
