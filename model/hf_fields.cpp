#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/log.h"
#include "model/hf_config.h"

namespace graft::model {
namespace {

// Keys that say nothing about the function the model computes.
constexpr std::array kHarmless = {"_attn_implementation",
                                  "_attn_implementation_autoset",
                                  "_name_or_path",
                                  "_sliding_window_pattern",
                                  "architectures",
                                  "attention_dropout",
                                  "attn_implementation",
                                  "auto_map",
                                  "boi_token_index",
                                  "cache_implementation",
                                  "chunk_size_feed_forward",
                                  "default_theta",
                                  "dtype",
                                  "embd_pdrop",
                                  "eoi_token_index",
                                  "finetuned",
                                  "full_attn_mod",
                                  "hidden_dropout",
                                  "id2label",
                                  "image_token_index",
                                  "initializer_range",
                                  "interpolate_factor",
                                  "is_decoder",
                                  "is_encoder_decoder",
                                  "is_llama_config",
                                  "label2id",
                                  "max_window_layers",
                                  "mm_tokens_per_image",
                                  "model_type",
                                  "output_attentions",
                                  "output_hidden_states",
                                  "output_router_logits",
                                  "pad_token_id",
                                  "pretraining_tp",
                                  "problem_type",
                                  "resid_pdrop",
                                  "return_dict",
                                  "rope_type",
                                  "router_aux_loss_coef",
                                  "router_jitter_noise",
                                  "sep_token_id",
                                  "sliding_window",
                                  "tokenizer_class",
                                  "torch_dtype",
                                  "transformers.js_config",
                                  "transformers_version",
                                  "type",
                                  "unk_token_id",
                                  "unsloth_fixed",
                                  "unsloth_version",
                                  "use_cache",
                                  "use_sliding_window",
                                  "vision_config"};

// Keys that change what the model computes; absent, null, false, zero and empty values do not.
constexpr std::array kMeaningful = {"alibi",
                                    "attention_bias",
                                    "attention_chunk_size",
                                    "attention_multiplier",
                                    "attn_logit_softcapping",
                                    "attn_temperature_tuning",
                                    "clip_qkv",
                                    "compression_config",
                                    "embedding_multiplier",
                                    "extrapolation_factor",
                                    "final_logit_softcapping",
                                    "kv_lora_rank",
                                    "layer_types",
                                    "lm_head_bias",
                                    "logits_scaling",
                                    "mlp_bias",
                                    "mlp_only_layers",
                                    "mrope_section",
                                    "mscale",
                                    "mscale_all_dim",
                                    "no_rope_layers",
                                    "num_experts",
                                    "num_local_experts",
                                    "num_nextn_predict_layers",
                                    "parallel_attn",
                                    "partial_rotary_factor",
                                    "q_lora_rank",
                                    "qk_layernorm",
                                    "quantization_config",
                                    "residual_multiplier",
                                    "rope_interleaved",
                                    "rope_local_base_freq",
                                    "use_bidirectional_attention",
                                    "use_mrope",
                                    "use_qk_norm"};

bool is_set(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  return !value.is_null() && !value.empty();
}

template <std::size_t n>
bool contains(const std::array<const char*, n>& names, std::string_view key) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

}  // namespace

HfFields::HfFields(const Json& object, std::string origin) : object_(object), origin_(std::move(origin)) {
  if (!object.is_object()) throw FormatError(cat(origin_, ": is ", object.type_name(), ", an object was expected"));
}

const Json* HfFields::find(const char* key) const {
  asked_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const Json& HfFields::get(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) throw FormatError(cat(origin_, ": ", key, " is missing"));
  return *value;
}

void HfFields::mismatch(const char* key, const Json& value, const char* expected) const {
  throw FormatError(cat(origin_, ": ", key, " is ", value.type_name(), ", ", expected, " was expected"));
}

void HfFields::unsupported(const char* key, const std::string& what) const {
  throw UnsupportedError(cat(origin_, ": ", key, " ", what));
}

namespace {

bool fits_int64(const Json& value) {
  return value.is_number_integer() &&
         !(value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX));
}

}  // namespace

std::int64_t HfFields::integer(const char* key) const {
  const Json& value = get(key);
  if (!fits_int64(value)) mismatch(key, value, "an integer");
  return value.get<std::int64_t>();
}

std::int64_t HfFields::integer_or(const char* key, std::int64_t fallback) const { return has(key) ? integer(key) : fallback; }

std::int64_t HfFields::first_integer_or(const char* key, std::int64_t fallback) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array()) return integer_or(key, fallback);
  const auto list = integers(key);
  return list.empty() ? fallback : list.front();
}

double HfFields::number(const char* key) const {
  const Json& value = get(key);
  if (!value.is_number()) mismatch(key, value, "a number");
  return value.get<double>();
}

double HfFields::number_or(const char* key, double fallback) const { return has(key) ? number(key) : fallback; }

bool HfFields::boolean_or(const char* key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) mismatch(key, *value, "true or false");
  return value->get<bool>();
}

std::string HfFields::string_or(const char* key, const std::string& fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) mismatch(key, *value, "a string");
  return value->get<std::string>();
}

std::vector<double> HfFields::numbers(const char* key) const {
  const Json& value = get(key);
  if (!value.is_array()) mismatch(key, value, "a list of numbers");
  std::vector<double> list;
  for (const Json& item : value) {
    if (!item.is_number()) mismatch(key, item, "a list of numbers");
    list.push_back(item.get<double>());
  }
  return list;
}

std::vector<std::int64_t> HfFields::integers(const char* key) const {
  const Json& value = get(key);
  if (!value.is_array()) mismatch(key, value, "a list of integers");
  std::vector<std::int64_t> list;
  for (const Json& item : value) {
    if (!fits_int64(item)) mismatch(key, item, "a list of integers");
    list.push_back(item.get<std::int64_t>());
  }
  return list;
}

std::vector<std::string> HfFields::strings(const char* key) const {
  const Json& value = get(key);
  if (!value.is_array()) mismatch(key, value, "a list of strings");
  std::vector<std::string> list;
  for (const Json& item : value) {
    if (!item.is_string()) mismatch(key, item, "a list of strings");
    list.push_back(item.get<std::string>());
  }
  return list;
}

std::optional<HfFields> HfFields::object(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return HfFields(*value, cat(origin_, ": ", key));
}

void HfFields::finish() const {
  for (const auto& [key, value] : object_.items()) {
    if (asked_.contains(key) || contains(kHarmless, key)) continue;
    if (!contains(kMeaningful, key)) {
      log::warn("model", origin_, ": key ", quote(key), " is not known to this program and is ignored");
    } else if (is_set(value)) {
      throw UnsupportedError(cat(origin_, ": ", key, " is set; models that need it are not supported"));
    }
  }
}

}  // namespace graft::model
