// The frozen base on disk: an HF directory (model.safetensors, or shards with an index) or a GGUF file, behind one interface with
// Hugging Face tensor names and layouts. GGUF's q/k permutation and Gemma's +1 are undone here, so nobody above knows the
// container.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "kernels/row_rounding/row_rounding.h"
#include "model/spec.h"

namespace graft::model {

struct WeightInfo {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;
  std::string stored_as;  // "BF16", "Q4_1", ...
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelSpec& spec() const = 0;
  virtual const std::vector<WeightInfo>& weights() const = 0;  // in the order of the model: embedding, layers, norm, head
  virtual bool has(const std::string& name) const = 0;
  // The tensor converted to f32 or bf16 (round to nearest even); FormatError when absent or of another shape than the spec says.
  virtual at::Tensor load(const std::string& name, at::ScalarType type) const = 0;
  // Rows [begin, end) of what load() gives, a copy. The readers of files do not decode more than these where rows lie together.
  virtual at::Tensor load_rows(const std::string& name, std::int64_t begin, std::int64_t end, at::ScalarType type) const;
  // What a server does to the inputs of the layers' linears, embedding, head and routers left alone.
  virtual kernels::RowRounding inputs() const { return kernels::RowRounding::none; }
  virtual const std::filesystem::path& path() const = 0;  // what the user named
  virtual bool is_gguf() const = 0;
  virtual const Json& hf_config() const = 0;        // config.json: read, or built from GGUF metadata in transformers' v4 style
  virtual const std::string& identity() const = 0;  // sha256 over names, shapes, types and content: the base's fingerprint
  // What identity() does the first time: reads everything. Given up meanwhile, it throws Interrupted, and nothing is kept.
  virtual void sum_content(const std::stop_token&) const { identity(); }
  // That the inputs of a weight's linear share, where inputs() rounds them on a given scale (kernels::rounded_rows); else 0.
  virtual float input_scale(const std::string&) const { return 0; }
};

// `path`: HF directory or GGUF file. FormatError / UnsupportedError (architecture by name, with the list of known ones).
std::unique_ptr<WeightSource> open_weights(const std::filesystem::path& path);

}  // namespace graft::model
