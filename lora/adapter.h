// A set of low-rank adapters over the linears of one decoder: W' = W + scale * B A (Hu et al. 2021, arXiv:2106.09685).
// Parameters and gradients live in two flat f32 arenas, A then B of each adapter in the order of the layers, so that the
// optimizer, the norm and a checkpoint are each one pass over one array. The optimizer's moments belong to train/.
//
// File layout: PEFT (docs/formats.md): adapter_config.json + adapter_model.safetensors,
//   base_model.model.<module path>.lora_A.weight (r, in) and .lora_B.weight (out, r), f32;
//   the safetensors metadata carries graft's own keys ("graft.base_identity"), out of PEFT's way.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "kernels/lora_linear/lora_linear.h"
#include "lora/config.h"
#include "model/decoder.h"
#include "model/weights.h"

namespace graft::lora {

struct Adapter {
  std::string module;         // "model.layers.0.self_attn.q_proj"
  kernels::LowRank low_rank;  // views into the arenas
};

struct AdapterSet {
  LoraConfig config;
  std::vector<std::unique_ptr<Adapter>> adapters;
  // The same by name: a mixture of experts has thousands.
  std::unordered_map<std::string, const Adapter*> by_module;
  at::Tensor parameters, gradients;  // (P) f32 flat; gradients undefined when loaded for inference
  std::string base_identity;         // WeightSource::identity() of the base trained on; empty when unknown
  std::int64_t count() const { return parameters.numel(); }
  const Adapter* find(const std::string& module) const;  // null when the module has no adapter
};

// Paths of the base's linears that can have an adapter: every matrix but the embedding and a mixture's routers; the head's where
// it is not tied.
std::vector<std::string> linear_names(const model::WeightSource& base);

// Which linears the patterns choose, in the order of `modules`. ConfigError when a pattern matches nothing, with the names that
// there are. A pattern is a module path or a suffix of one at a dot, either with * for any characters, or "all-linear".
std::vector<std::string> match_targets(const LoraConfig& config, const std::vector<std::string>& modules);
// Of the adapters that create() will make, before the base is loaded.
std::int64_t parameter_count(const LoraConfig& config, const model::WeightSource& base);

struct AdapterShape {
  std::string module;
  std::int64_t in, out;
};
// Adapters of these shapes with zero parameters, and zero gradients if `trainable`: the one place where arenas are laid out.
std::unique_ptr<AdapterSet> allocate(const LoraConfig& config, const std::vector<AdapterShape>& shapes, bool trainable);

// A: Kaiming-uniform with a = sqrt(5) as PEFT (bound 1/sqrt(in)), from Random(seed, Stream::init, index); B: zero.
std::unique_ptr<AdapterSet> create(const LoraConfig& config, model::Decoder& decoder, std::uint64_t seed);
void attach(AdapterSet& set, model::Decoder& decoder);  // sets Linear::adapter; DataError when a module or shape does not fit
void detach(model::Decoder& decoder);

// DataError when the set was trained on another base: a module that is missing, or a shape that differs ...
void check_shapes(const AdapterSet& set, const model::WeightSource& base);
// ... or the recorded identity, for which the whole base is read once.
void check_base(const AdapterSet& set, const model::WeightSource& base);

// PEFT directory. base: written as base_model_name_or_path. save writes into an existing directory (of a DirectoryWriter).
void save_peft(const AdapterSet& set, const std::filesystem::path& directory, const std::string& base);
// Reads what PEFT or save_peft wrote; anything that would change the adapter's meaning and is not LoRA or rsLoRA with one rank
// is refused by name (UnsupportedError): DoRA, biases, modules_to_save, rank patterns, ... FormatError for a malformed file.
std::unique_ptr<AdapterSet> load_peft(const std::filesystem::path& directory);

// W + scale * B A in f32 for rows of the tensor "<module>.weight", f32 (n, K), of which the first is row `begin`; these rows
// unchanged when the module has no adapter. std::logic_error for rows that the adapter has no factors for: check_shapes() first.
at::Tensor merged_rows(const AdapterSet& set, const std::string& module, std::int64_t begin, const at::Tensor& rows_f32);

}  // namespace graft::lora
