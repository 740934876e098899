#include "export/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/json.h"
#include "export/gguf_tokenizer.h"
#include "model/family.h"
#include "model/hf_config.h"

namespace graft::exports {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION

// "135M", "1.1B": at least two digits (gguf-py/gguf/utility.py, model_weight_count_rounded_notation).
std::string size_label(std::int64_t parameters) {
  struct Unit {
    double size;
    const char* suffix;
  };
  constexpr std::array units = {Unit{1e12, "T"}, Unit{1e9, "B"}, Unit{1e6, "M"}, Unit{1e3, "K"}};
  const Unit* unit = &units.back();
  for (const Unit& u : units)
    if (static_cast<double>(parameters) > u.size) {
      unit = &u;
      break;
    }
  const double scaled = static_cast<double>(parameters) / unit->size;
  const double whole = std::nearbyint(scaled);  // Python's round: ties to even
  const int digits = whole >= 10 ? 2 : whole >= 1 ? 1 : 0;
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.*f%s", 2 - digits, scaled, unit->suffix);
  return text.data();
}

void integer(GgufWriter& writer, const std::string& key, std::int64_t value) {
  writer.u32(key, static_cast<std::uint32_t>(value));
}

void real(GgufWriter& writer, const std::string& key, double value) { writer.f32(key, static_cast<float>(value)); }

// The sampling settings that a model's authors recommend, for the servers that read them.
void write_sampling(GgufWriter& writer, const std::filesystem::path& directory) {
  const auto file = directory / "generation_config.json";
  if (!std::filesystem::is_regular_file(file)) return;
  const Json config = read_json(file);
  const auto number = [&](const char* key) {
    return config.is_object() && config.contains(key) && config[key].is_number() ? &config[key] : nullptr;
  };
  if (const Json* k = number("top_k")) writer.pair("general.sampling.top_k", {GgufType::i32, false, k->get<std::int64_t>()});
  if (const Json* p = number("top_p")) real(writer, "general.sampling.top_p", p->get<double>());
  if (const Json* p = number("min_p")) real(writer, "general.sampling.min_p", p->get<double>());
  if (const Json* t = number("temperature")) real(writer, "general.sampling.temp", t->get<double>());
  if (const Json* r = number("repetition_penalty")) real(writer, "general.sampling.penalty_repeat", r->get<double>());
}

// linear and yarn are keys, llama3 and longrope are tensors (gguf_model.cpp).
void write_rope_scaling(GgufWriter& writer, const std::string& prefix, const Json& config, const model::RopeSpec& rope,
                        const std::string& origin) {
  if (rope.scaling == model::RopeScaling::longrope) real(writer, prefix + "rope.scaling.attn_factor", rope.attention_factor);
  if (rope.scaling != model::RopeScaling::linear && rope.scaling != model::RopeScaling::yarn) return;
  const bool yarn = rope.scaling == model::RopeScaling::yarn;
  writer.string(prefix + "rope.scaling.type", yarn ? "yarn" : "linear");
  real(writer, prefix + "rope.scaling.factor", rope.factor);
  if (!yarn) return;
  integer(writer, prefix + "rope.scaling.original_context_length", rope.original_context);
  const Json empty = Json::object();
  const Json& parameters = config.contains("rope_parameters") ? config["rope_parameters"]
                           : config.contains("rope_scaling")  ? config["rope_scaling"]
                                                              : empty;
  const auto optional = [&](const char* key, const char* gguf) {  // only what the config states; llama.cpp has its own defaults
    if (parameters.contains(key) && !parameters[key].is_null())
      real(writer, prefix + "rope.scaling." + gguf, json_get<double>(parameters, key, origin));
  };
  optional("extrapolation_factor", "yarn_ext_factor");
  optional("attention_factor", "yarn_attn_factor");
  // llama.cpp reads the key above for other architectures alone, and multiplies what it computes itself by this one.
  if (const double own = model::yarn_attention_factor(rope.factor); rope.attention_factor != own)
    real(writer, prefix + "rope.scaling.attn_factor", rope.attention_factor / own);
  optional("beta_fast", "yarn_beta_fast");
  optional("beta_slow", "yarn_beta_slow");
}

// Keys that only some architectures have.
void write_architecture_keys(GgufWriter& writer, const std::string& architecture, const model::ModelSpec& spec,
                             const Json& config) {
  const std::string prefix = architecture + ".";
  const bool llama = architecture == "llama" || architecture == "smollm3", phi3 = architecture == "phi3";
  // The converter writes the head size when transformers' config class has the field; these three have not.
  if ((architecture != "qwen2" && architecture != "smollm3" && !phi3) ||
      (config.contains("head_dim") && !config["head_dim"].is_null())) {
    integer(writer, prefix + "attention.key_length", spec.head_dim);
    integer(writer, prefix + "attention.value_length", spec.head_dim);
  }
  if (llama) integer(writer, prefix + "vocab_size", spec.vocab);
  if (llama || phi3) integer(writer, prefix + "rope.dimension_count", spec.rope.dims);
  if (phi3)
    integer(writer, prefix + "rope.scaling.original_context_length",
            spec.rope.original_context > 0 ? spec.rope.original_context : spec.context);
  std::int64_t window = 0;
  for (const model::LayerSpec& layer : spec.layers) window = std::max(window, layer.window);
  if (phi3 || architecture == "gemma2" || architecture == "gemma3") integer(writer, prefix + "attention.sliding_window", window);
  if (architecture == "gemma3") real(writer, prefix + "rope.freq_base_swa", spec.rope_local.theta);
  if (spec.attention_softcap > 0) real(writer, prefix + "attn_logit_softcapping", spec.attention_softcap);
  if (spec.final_softcap > 0) real(writer, prefix + "final_logit_softcapping", spec.final_softcap);
  if (spec.moe.experts > 0) {
    integer(writer, prefix + "expert_count", spec.moe.experts);
    integer(writer, prefix + "expert_used_count", spec.moe.per_token);
    if (!llama) integer(writer, prefix + "expert_feed_forward_length", spec.moe.ffn);
  }
}

void write_from_hf(GgufWriter& writer, const ExportRequest& request, GgufFileType file, std::int64_t parameters) {
  const model::ModelSpec& spec = request.base.spec();
  const Json& config = request.base.hf_config();
  const std::string architecture = gguf_architecture(spec), prefix = architecture + ".";
  writer.string("general.architecture", architecture);
  writer.string("general.type", "model");
  write_sampling(writer, request.base.path());
  writer.string("general.name", request.name);
  writer.string("general.size_label", size_label(parameters));
  integer(writer, prefix + "block_count", spec.layers.size());
  integer(writer, prefix + "context_length", spec.context);
  integer(writer, prefix + "embedding_length", spec.hidden);
  integer(writer, prefix + "feed_forward_length", spec.ffn);
  integer(writer, prefix + "attention.head_count", spec.heads);
  integer(writer, prefix + "attention.head_count_kv", spec.kv_heads);
  write_rope_scaling(writer, prefix, config, spec.rope, request.base.path().string());
  real(writer, prefix + "rope.freq_base", spec.rope.theta);
  real(writer, prefix + "attention.layer_norm_rms_epsilon", spec.norm_eps);
  write_architecture_keys(writer, architecture, spec, config);
  integer(writer, "general.file_type", static_cast<std::int64_t>(file));
  write_tokenizer(writer, request.base.path(), spec);
}

// Everything that describes the model and its tokenizer stays; what describes the file is new.
void carry_over(GgufWriter& writer, const ExportRequest& request, GgufFileType file) {
  const GgufFile base(request.base.path());
  const auto describes_file = [](const std::string& key) {
    return key == "general.file_type" || key == "general.quantization_version" || key == "general.alignment" ||
           key == "general.name" || key.starts_with("split.") || key.starts_with("quantize.");
  };
  for (const auto& [key, pair] : base.pairs())
    if (!describes_file(key)) writer.pair(key, pair);
  writer.string("general.name", request.name);
  if (!base.has("general.base_model.count") && base.has("general.name")) {
    integer(writer, "general.base_model.count", 1);
    writer.string("general.base_model.0.name", base.string("general.name"));
  }
  integer(writer, "general.file_type", static_cast<std::int64_t>(file));
}

}  // namespace

std::string gguf_architecture(const model::ModelSpec& spec) {
  const model::Family& family = model::family_named(spec.family);
  if (!family.gguf_architectures.empty()) return std::string(family.gguf_architectures.front());
  // Mistral and Mixtral have no architecture of their own: with Llama's order of rows they are Llama's.
  return family.gguf_permutes_qk ? "llama" : "";
}

void write_model_metadata(GgufWriter& writer, const ExportRequest& request, GgufFileType file, std::int64_t parameters) {
  if (request.base.is_gguf())
    carry_over(writer, request, file);
  else
    write_from_hf(writer, request, file, parameters);
  integer(writer, "general.quantization_version", kQuantizationVersion);
}

}  // namespace graft::exports
