// Reading and writing config.json of transformers v4 and v5 for the files in families/: typed fields, the numbers that all
// decoders share, rotary embeddings. FormatError and UnsupportedError name the file and the key.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "model/spec.h"

namespace graft::model {

// One JSON object. A key that is null counts as absent, as in transformers. Remembers which keys were asked for.
class HfFields {
 public:
  HfFields(const Json& object, std::string origin);  // FormatError when it is not an object

  bool has(const char* key) const { return find(key) != nullptr; }
  std::int64_t integer(const char* key) const;
  std::int64_t integer_or(const char* key, std::int64_t fallback) const;
  std::int64_t first_integer_or(const char* key, std::int64_t fallback) const;  // an integer, or the first of a list
  double number(const char* key) const;
  double number_or(const char* key, double fallback) const;
  bool boolean_or(const char* key, bool fallback) const;
  std::string string_or(const char* key, const std::string& fallback) const;
  std::vector<double> numbers(const char* key) const;
  std::vector<std::int64_t> integers(const char* key) const;
  std::vector<std::string> strings(const char* key) const;
  std::optional<HfFields> object(const char* key) const;
  const std::string& origin() const { return origin_; }
  [[noreturn]] void unsupported(const char* key, const std::string& what) const;

  // UnsupportedError for a key that nobody asked for and that would change the result of the model; a warning for one that
  // this program does not know.
  void finish() const;

 private:
  const Json* find(const char* key) const;
  const Json& get(const char* key) const;
  [[noreturn]] void mismatch(const char* key, const Json& value, const char* expected) const;

  const Json& object_;
  std::string origin_;
  mutable std::set<std::string, std::less<>> asked_;
};

struct HfDefaults {  // what transformers assumes when config.json is silent
  double theta = 10000, eps = 1e-6;
  bool tied = false;
  std::int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  std::int64_t kv_heads = 0;  // 0: num_attention_heads
};

// Sizes, norm, rotary embedding, special tokens; `layers` full-attention layers; attention scale 1/sqrt(head_dim).
ModelSpec read_hf_base(const HfFields& fields, const char* family, const char* architecture, const HfDefaults& defaults);
// `scaling`: the object rope_parameters (v5) or rope_scaling (v4) of `fields`, if there is one; its values win over those
// outside.
RopeSpec read_hf_rope(const HfFields& fields, const std::optional<HfFields>& scaling, double theta, double partial,
                      std::int64_t head_dim, std::int64_t context, std::int64_t original_context);
// "layer_types", or `fallback(i)` when absent: true for the layers with a sliding window.
template <class Fallback>
std::vector<bool> read_hf_sliding(const HfFields& fields, std::size_t layers, Fallback fallback);
std::vector<bool> sliding_from_types(const HfFields& fields, std::size_t layers);

// The config of transformers v4 for a spec: what all families share. model_type and the rest is added by the family.
Json write_hf_base(const ModelSpec& spec, const char* model_type);
Json write_hf_rope_scaling(const RopeSpec& rope);  // null when there is none
// Of longrope, what follows from the numbers of positions alone; transformers models/phi3, modeling_rope_utils.py.
double longrope_attention_factor(double factor, std::int64_t original_context);
double yarn_attention_factor(double factor);  // where a config states none: 0.1 ln(factor) + 1

template <class Fallback>
std::vector<bool> read_hf_sliding(const HfFields& fields, std::size_t layers, Fallback fallback) {
  if (fields.has("layer_types")) return sliding_from_types(fields, layers);
  std::vector<bool> sliding(layers);
  for (std::size_t i = 0; i < layers; ++i) sliding[i] = fallback(static_cast<std::int64_t>(i));
  return sliding;
}

}  // namespace graft::model
