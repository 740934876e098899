#include "model/gguf_config.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/error.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

double shortest_decimal(double value) {
  const float single = static_cast<float>(value);
  if (static_cast<double>(single) != value || !std::isfinite(value)) return value;
  char text[64];
  const auto written = std::to_chars(text, text + sizeof text, single);
  double result = value;
  std::from_chars(text, written.ptr, result);
  return result;
}

std::int64_t bounded(const GgufFile& file, const char* name, std::int64_t low, std::int64_t high) {
  const std::string key = gguf_key(file, name);
  const std::int64_t value = file.integer(key);
  if (value < low || value > high)
    throw FormatError(cat(file.path().string(), ": ", key, " is ", value, ", must be between ", low, " and ", high));
  return value;
}

std::int64_t integer_or(const GgufFile& file, const char* name, std::int64_t fallback) {
  return file.integer_or(gguf_key(file, name), fallback);
}

// A vector of frequency divisors, one for each rotated pair.
std::vector<double> read_divisors(const GgufFile& file, const GgufTensor& tensor, std::int64_t pairs) {
  if (tensor.shape != std::vector<std::int64_t>{pairs})
    throw FormatError(
        cat(file.path().string(), ": tensor ", tensor.name, " must have ", pairs, " numbers, one for each rotated pair"));
  if (tensor.type != GgmlType::f32)
    throw UnsupportedError(
        cat(file.path().string(), ": tensor ", tensor.name, " is ", info_of(tensor.type).name, ", F32 was expected"));
  std::vector<float> values(static_cast<std::size_t>(pairs));
  std::memcpy(values.data(), file.data(tensor).data(), values.size() * sizeof(float));
  std::vector<double> divisors;
  for (float value : values) divisors.push_back(shortest_decimal(value));
  return divisors;
}

// The divisor that Llama 3's scaling gives to a frequency (llama.cpp conversion/llama.py).
double llama3_divisor(double wavelength, double factor, double low, double high, double original) {
  if (wavelength < original / high) return 1;
  if (wavelength > original / low) return factor;
  const double smooth = (original / wavelength - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}

// GGUF keeps the divisors and drops the numbers they came from. Every published Llama 3 has low 1, high 4 and a power of two as
// original context: when those reproduce the divisors, the spec says so; else the divisors themselves are kept.
void set_divisors(RopeSpec& rope, std::vector<double> divisors, std::int64_t context) {
  double factor = 1;
  for (double divisor : divisors) factor = std::max(factor, divisor);
  for (std::int64_t original = 16; original <= (1 << 20); original *= 2) {
    bool same = true;
    for (std::size_t i = 0; i < divisors.size() && same; ++i) {
      const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(rope.dims);
      const double wavelength = 2 * std::numbers::pi * std::pow(rope.theta, exponent);
      const double expected = llama3_divisor(wavelength, factor, 1, 4, static_cast<double>(original));
      same = std::abs(expected - divisors[i]) <= 1e-5 * expected;
    }
    if (!same) continue;
    rope.scaling = RopeScaling::llama3;
    rope.factor = factor;
    rope.low_freq_factor = 1;
    rope.high_freq_factor = 4;
    rope.original_context = original;
    return;
  }
  rope.scaling = RopeScaling::longrope;
  rope.original_context = context;
  rope.short_factors = rope.long_factors = std::move(divisors);
}

RopeSpec read_rope(const GgufFile& file, std::int64_t head_dim, std::int64_t context) {
  RopeSpec rope;
  rope.theta = gguf_number_or(file, "rope.freq_base", 10000);
  rope.dims = integer_or(file, "rope.dimension_count", head_dim);
  if (rope.dims < 2 || rope.dims > head_dim || rope.dims % 2 != 0)
    throw FormatError(cat(file.path().string(), ": ", gguf_key(file, "rope.dimension_count"), " is ", rope.dims,
                          ", must be even and at most the head size ", head_dim));
  const std::string key = gguf_key(file, "rope.scaling.type");
  const std::string type = file.string_or(key, "none");
  const GgufTensor* freqs = file.find("rope_freqs.weight");
  const GgufTensor* long_factors = file.find("rope_factors_long.weight");
  const GgufTensor* short_factors = file.find("rope_factors_short.weight");
  rope.original_context = integer_or(file, "rope.scaling.original_context_length", context);
  const double attention_factor = gguf_number_or(file, "rope.scaling.attn_factor", 1);
  if (long_factors && short_factors) {
    rope.scaling = RopeScaling::longrope;
    rope.long_factors = read_divisors(file, *long_factors, rope.dims / 2);
    rope.short_factors = read_divisors(file, *short_factors, rope.dims / 2);
    rope.factor = rope.original_context > 0 ? static_cast<double>(context) / static_cast<double>(rope.original_context) : 0;
    rope.attention_factor = attention_factor;
  } else if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    rope.factor = gguf_number_or(file, "rope.scaling.factor", 1);
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.factor = gguf_number_or(file, "rope.scaling.factor", 1);
    rope.beta_fast = gguf_number_or(file, "rope.scaling.yarn_beta_fast", 32);
    rope.beta_slow = gguf_number_or(file, "rope.scaling.yarn_beta_slow", 1);
    // What converters write of the config's own; llama.cpp reads the other (export/gguf_metadata.cpp).
    rope.attention_factor =
        gguf_number_or(file, "rope.scaling.yarn_attn_factor", yarn_attention_factor(rope.factor) * attention_factor);
  } else if (type != "none" && type != "longrope") {
    throw UnsupportedError(cat(file.path().string(), ": ", key, " is ", quote(type), "; known: none, linear, yarn, longrope"));
  }
  if (freqs) {
    if (rope.scaling != RopeScaling::none)
      throw UnsupportedError(cat(file.path().string(), ": has both rope_freqs.weight and rope scaling of type ", type));
    set_divisors(rope, read_divisors(file, *freqs, rope.dims / 2), context);
  }
  if (rope.scaling == RopeScaling::none || rope.scaling == RopeScaling::linear) rope.original_context = 0;
  return rope;
}

}  // namespace

std::string gguf_key(const GgufFile& file, const char* key) { return file.string("general.architecture") + "." + key; }

double gguf_number_or(const GgufFile& file, const char* key, double fallback) {
  const std::string full = gguf_key(file, key);
  return file.has(full) ? shortest_decimal(file.number(full)) : fallback;
}

ModelSpec read_gguf_base(const GgufFile& file, const char* family, const char* architecture) {
  ModelSpec spec;
  spec.family = family;
  spec.architecture = architecture;
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    throw FormatError(cat(file.path().string(), ": tensor token_embd.weight is missing or not a matrix"));
  spec.vocab = embedding->shape[0];
  spec.hidden = bounded(file, "embedding_length", 1, 1 << 18);
  spec.heads = bounded(file, "attention.head_count", 1, 4096);
  spec.kv_heads = integer_or(file, "attention.head_count_kv", spec.heads);
  spec.head_dim = integer_or(file, "attention.key_length", spec.hidden / spec.heads);
  if (spec.head_dim < 2 || spec.head_dim > 4096)
    throw FormatError(cat(file.path().string(), ": the head size is ", spec.head_dim, ", must be between 2 and 4096"));
  if (const std::int64_t value = integer_or(file, "attention.value_length", spec.head_dim); value != spec.head_dim)
    throw UnsupportedError(cat(file.path().string(), ": ", gguf_key(file, "attention.value_length"), " is ", value,
                               " but the head size of queries and keys is ", spec.head_dim));
  spec.ffn = bounded(file, "feed_forward_length", 1, 1 << 20);
  spec.context = bounded(file, "context_length", 1, 1ll << 31);
  spec.layers.resize(static_cast<std::size_t>(bounded(file, "block_count", 1, 1024)));
  spec.norm_eps = gguf_number_or(file, "attention.layer_norm_rms_epsilon", 1e-5);
  spec.tied_head = file.find("output.weight") == nullptr;
  spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.head_dim));
  spec.bos = file.integer_or("tokenizer.ggml.bos_token_id", -1);
  spec.eos = file.integer_or("tokenizer.ggml.eos_token_id", -1);
  spec.rope = read_rope(file, spec.head_dim, spec.context);
  return spec;
}

void read_gguf_experts(const GgufFile& file, ModelSpec& spec) {
  spec.moe.experts = bounded(file, "expert_count", 1, 1024);
  spec.moe.per_token = bounded(file, "expert_used_count", 1, 1024);
  spec.moe.ffn = integer_or(file, "expert_feed_forward_length", spec.ffn);
}

}  // namespace graft::model
