#include "model/hf_config.h"

#include <cmath>

#include "core/error.h"

namespace graft::model {
namespace {

Activation read_activation(const HfFields& fields) {
  const char* key = fields.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string name = fields.string_or(key, "silu");
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::gelu_tanh;
  fields.unsupported(key, cat("is ", quote(name), "; known: silu, gelu_pytorch_tanh"));
}

std::int64_t bounded(const HfFields& fields, const char* key, std::int64_t low, std::int64_t high) {
  const std::int64_t value = fields.integer(key);
  if (value < low || value > high)
    throw FormatError(cat(fields.origin(), ": ", key, " is ", value, ", must be between ", low, " and ", high));
  return value;
}

}  // namespace

ModelSpec read_hf_base(const HfFields& fields, const char* family, const char* architecture, const HfDefaults& defaults) {
  ModelSpec spec;
  spec.family = family;
  spec.architecture = architecture;
  spec.vocab = fields.integer("vocab_size");
  spec.hidden = bounded(fields, "hidden_size", 1, 1 << 18);
  spec.heads = bounded(fields, "num_attention_heads", 1, 4096);
  spec.kv_heads = fields.integer_or("num_key_value_heads", defaults.kv_heads > 0 ? defaults.kv_heads : spec.heads);
  spec.head_dim = fields.integer_or("head_dim", defaults.head_dim > 0 ? defaults.head_dim : spec.hidden / spec.heads);
  if (spec.head_dim < 2 || spec.head_dim > 4096)
    throw FormatError(cat(fields.origin(), ": head_dim is ", spec.head_dim, ", must be between 2 and 4096"));
  spec.ffn = fields.integer("intermediate_size");
  spec.context = fields.integer("max_position_embeddings");
  spec.layers.resize(static_cast<std::size_t>(bounded(fields, "num_hidden_layers", 1, 1024)));
  spec.norm_eps = fields.number_or("rms_norm_eps", defaults.eps);
  spec.activation = read_activation(fields);
  spec.tied_head = fields.boolean_or("tie_word_embeddings", defaults.tied);
  spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.head_dim));
  spec.bos = fields.first_integer_or("bos_token_id", -1);
  spec.eos = fields.first_integer_or("eos_token_id", -1);

  const char* key = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (const auto scaling = fields.object(key); !scaling || !(scaling->has("full_attention") || scaling->has("sliding_attention")))
    spec.rope = read_hf_rope(fields, scaling, fields.number_or("rope_theta", defaults.theta),
                             fields.number_or("partial_rotary_factor", 1), spec.head_dim, spec.context,
                             fields.integer_or("original_max_position_embeddings", 0));
  return spec;
}

double yarn_attention_factor(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

double longrope_attention_factor(double factor, std::int64_t original_context) {
  return factor <= 1 || original_context <= 1 ? 1
                                              : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original_context)));
}

RopeSpec read_hf_rope(const HfFields& fields, const std::optional<HfFields>& scaling, double theta, double partial,
                      std::int64_t head_dim, std::int64_t context, std::int64_t original_context) {
  RopeSpec rope;
  rope.theta = scaling ? scaling->number_or("rope_theta", theta) : theta;
  if (scaling) partial = scaling->number_or("partial_rotary_factor", partial);
  if (!(partial > 0 && partial <= 1))
    throw FormatError(cat(scaling ? scaling->origin() : fields.origin(), ": partial_rotary_factor is ", partial,
                          ", must be above 0 and at most 1"));
  rope.dims = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  if (!scaling) return rope;

  const char* type_key = scaling->has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling->string_or(type_key, "default");
  // transformers lets a value outside win; else the one inside; else the context.
  const std::int64_t inside = scaling->integer_or("original_max_position_embeddings", context);
  const std::int64_t original = original_context > 0 ? original_context : inside;
  if (type == "default") {
  } else if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    rope.factor = scaling->number("factor");
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.factor = scaling->number("factor");
    rope.low_freq_factor = scaling->number("low_freq_factor");
    rope.high_freq_factor = scaling->number("high_freq_factor");
    rope.original_context = original;
  } else if (type == "longrope" || type == "su" || (type == "yarn" && scaling->has("short_factor"))) {
    // "su" and, in the first Phi-3 files, "yarn" are older names of longrope.
    rope.scaling = RopeScaling::longrope;
    rope.original_context = original;
    rope.short_factors = scaling->numbers("short_factor");
    rope.long_factors = scaling->numbers("long_factor");
    rope.factor = scaling->number_or("factor", original > 0 ? static_cast<double>(context) / static_cast<double>(original) : 0);
    rope.attention_factor = scaling->number_or("attention_factor", longrope_attention_factor(rope.factor, original));
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.factor = scaling->number("factor");
    rope.original_context = original;
    rope.beta_fast = scaling->number_or("beta_fast", 32);
    rope.beta_slow = scaling->number_or("beta_slow", 1);
    rope.attention_factor = scaling->number_or("attention_factor", yarn_attention_factor(rope.factor));
    if (!scaling->boolean_or("truncate", true)) scaling->unsupported("truncate", "is false; only true is supported");
  } else {
    scaling->unsupported(type_key, cat("is ", quote(type), "; known: default, linear, llama3, yarn, longrope"));
  }
  scaling->finish();
  return rope;
}

std::vector<bool> sliding_from_types(const HfFields& fields, std::size_t layers) {
  const auto types = fields.strings("layer_types");
  if (types.size() != layers)
    throw FormatError(cat(fields.origin(), ": layer_types has ", types.size(), " entries, num_hidden_layers is ", layers));
  std::vector<bool> sliding(layers);
  for (std::size_t i = 0; i < layers; ++i) {
    if (types[i] != "full_attention" && types[i] != "sliding_attention")
      fields.unsupported("layer_types", cat("has ", quote(types[i]), "; known: full_attention, sliding_attention"));
    sliding[i] = types[i] == "sliding_attention";
  }
  return sliding;
}

Json write_hf_base(const ModelSpec& spec, const char* model_type) {
  Json config = {{"architectures", {spec.architecture}},
                 {"model_type", model_type},
                 {"vocab_size", spec.vocab},
                 {"hidden_size", spec.hidden},
                 {"intermediate_size", spec.ffn},
                 {"num_hidden_layers", spec.layers.size()},
                 {"num_attention_heads", spec.heads},
                 {"num_key_value_heads", spec.kv_heads},
                 {"head_dim", spec.head_dim},
                 {"hidden_act", spec.activation == Activation::silu ? "silu" : "gelu_pytorch_tanh"},
                 {"max_position_embeddings", spec.context},
                 {"rms_norm_eps", spec.norm_eps},
                 {"rope_theta", spec.rope.theta},
                 {"rope_scaling", write_hf_rope_scaling(spec.rope)},
                 {"tie_word_embeddings", spec.tied_head},
                 {"attention_bias", false},
                 {"attention_dropout", 0.0},
                 {"torch_dtype", "bfloat16"},
                 {"use_cache", true}};
  if (spec.rope.dims != spec.head_dim)
    config["partial_rotary_factor"] = static_cast<double>(spec.rope.dims) / static_cast<double>(spec.head_dim);
  config["bos_token_id"] = spec.bos >= 0 ? Json(spec.bos) : Json();
  config["eos_token_id"] = spec.eos >= 0 ? Json(spec.eos) : Json();
  return config;
}

Json write_hf_rope_scaling(const RopeSpec& rope) {
  switch (rope.scaling) {
    case RopeScaling::none:
      return nullptr;
    case RopeScaling::linear:
      return {{"rope_type", "linear"}, {"factor", rope.factor}};
    case RopeScaling::llama3:
      return {{"rope_type", "llama3"},
              {"factor", rope.factor},
              {"low_freq_factor", rope.low_freq_factor},
              {"high_freq_factor", rope.high_freq_factor},
              {"original_max_position_embeddings", rope.original_context}};
    case RopeScaling::yarn:
      return {{"rope_type", "yarn"},
              {"factor", rope.factor},
              {"beta_fast", rope.beta_fast},
              {"beta_slow", rope.beta_slow},
              {"attention_factor", rope.attention_factor},
              {"original_max_position_embeddings", rope.original_context}};
    case RopeScaling::longrope:
      return {{"rope_type", "longrope"},
              {"factor", rope.factor},
              {"attention_factor", rope.attention_factor},
              {"short_factor", rope.short_factors},
              {"long_factor", rope.long_factors},
              {"original_max_position_embeddings", rope.original_context}};
  }
  return nullptr;
}

}  // namespace graft::model
