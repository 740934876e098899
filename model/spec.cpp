#include "model/spec.h"

#include <cmath>

#include "core/error.h"
#include "model/tensors.h"

namespace graft::model {
namespace {

class Checker {
 public:
  explicit Checker(const std::string& origin) : origin_(origin) {}
  void range(const char* field, std::int64_t value, std::int64_t low, std::int64_t high) const {
    if (value < low || value > high)
      throw FormatError(cat(origin_, ": ", field, " is ", value, ", must be between ", low, " and ", high));
  }
  void positive(const char* field, double value) const {
    if (!(value > 0) || !std::isfinite(value))
      throw FormatError(cat(origin_, ": ", field, " is ", value, ", must be a positive number"));
  }
  void not_negative(const char* field, double value) const {
    if (!(value >= 0) || !std::isfinite(value))
      throw FormatError(cat(origin_, ": ", field, " is ", value, ", must be zero or a positive number"));
  }
  void that(bool holds, const std::string& what) const {
    if (!holds) throw FormatError(cat(origin_, ": ", what));
  }

 private:
  const std::string& origin_;
};

void check_rope(const Checker& check, const RopeSpec& rope, std::int64_t head_dim) {
  check.positive("rope_theta", rope.theta);
  check.range("rotated dimensions of a head", rope.dims, 2, head_dim);
  check.that(rope.dims % 2 == 0, cat("rotated dimensions of a head are ", rope.dims, ", must be even"));
  check.positive("rope factor", rope.factor);
  check.positive("rope attention_factor", rope.attention_factor);
  switch (rope.scaling) {
    case RopeScaling::none:
    case RopeScaling::linear:
      break;
    case RopeScaling::llama3:
      check.range("rope original_max_position_embeddings", rope.original_context, 1, 1ll << 31);
      check.positive("rope low_freq_factor", rope.low_freq_factor);
      check.that(rope.high_freq_factor > rope.low_freq_factor, cat("rope high_freq_factor is ", rope.high_freq_factor,
                                                                   ", must be above low_freq_factor ", rope.low_freq_factor));
      break;
    case RopeScaling::yarn:
      check.range("rope original_max_position_embeddings", rope.original_context, 1, 1ll << 31);
      check.positive("rope beta_fast", rope.beta_fast);
      check.positive("rope beta_slow", rope.beta_slow);
      check.that(rope.theta > 1, cat("rope_theta is ", rope.theta, ", yarn needs it above 1"));
      break;
    case RopeScaling::longrope:
      check.range("rope original_max_position_embeddings", rope.original_context, 1, 1ll << 31);
      for (const auto* factors : {&rope.short_factors, &rope.long_factors}) {
        const char* name = factors == &rope.short_factors ? "rope short_factor" : "rope long_factor";
        check.that(static_cast<std::int64_t>(factors->size()) == rope.dims / 2,
                   cat(name, " has ", factors->size(), " numbers, half of the rotated dimensions are ", rope.dims / 2));
        for (double factor : *factors) check.positive(name, factor);
      }
  }
}

}  // namespace

std::int64_t ModelSpec::parameters() const {
  std::int64_t count = 0;
  for (const TensorSpec& tensor : tensors_of(*this)) {
    std::int64_t size = 1;
    for (std::int64_t dimension : tensor.shape) size *= dimension;
    count += size;
  }
  return count;
}

void check(const ModelSpec& spec, const std::string& origin) {
  const Checker check(origin);
  check.range("vocab_size", spec.vocab, 2, 1 << 24);
  check.range("hidden_size", spec.hidden, 1, 1 << 18);
  check.range("num_attention_heads", spec.heads, 1, 4096);
  check.range("num_key_value_heads", spec.kv_heads, 1, spec.heads);
  check.that(spec.heads % spec.kv_heads == 0,
             cat("num_attention_heads ", spec.heads, " is not a multiple of num_key_value_heads ", spec.kv_heads));
  check.range("head_dim", spec.head_dim, 2, 4096);
  check.range("max_position_embeddings", spec.context, 1, 1ll << 31);
  check.range("num_hidden_layers", static_cast<std::int64_t>(spec.layers.size()), 1, 1024);
  check.range("num_experts", spec.moe.experts, 0, 1024);
  // Each expert of each layer is three entries of the table of tensors; published models have up to 25,000.
  check.range("num_hidden_layers times num_experts", static_cast<std::int64_t>(spec.layers.size()) * spec.moe.experts, 0,
              1 << 16);
  if (spec.moe.experts > 0) {
    check.range("num_experts_per_tok", spec.moe.per_token, 1, spec.moe.experts);
    check.range("intermediate_size of an expert", spec.moe.ffn, 1, 1 << 20);
  } else {
    check.range("intermediate_size", spec.ffn, 1, 1 << 20);
  }
  check.positive("rms_norm_eps", spec.norm_eps);
  check.positive("attention scale", spec.attention_scale);
  check.positive("embedding scale", spec.embed_scale);
  check.not_negative("attn_logit_softcapping", spec.attention_softcap);
  check.not_negative("final_logit_softcapping", spec.final_softcap);
  check_rope(check, spec.rope, spec.head_dim);
  bool local = false;
  for (const LayerSpec& layer : spec.layers) {
    check.range("sliding_window", layer.window, 0, 1ll << 31);
    local = local || layer.local_rope;
  }
  if (local) check_rope(check, spec.rope_local, spec.head_dim);
  check.range("bos_token_id", spec.bos, -1, spec.vocab - 1);
  check.range("eos_token_id", spec.eos, -1, spec.vocab - 1);
}

}  // namespace graft::model
