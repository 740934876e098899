#include "model/tensors.h"

#include <charconv>
#include <string_view>

#include "core/error.h"
#include "model/family.h"

namespace graft::model {
namespace {

// Tensors of every layer, names without "model.layers.N." and "blk.N.".
std::vector<TensorSpec> layer_tensors(const ModelSpec& s) {
  std::vector<TensorSpec> table;
  auto add = [&](std::string name, std::string gguf, std::vector<std::int64_t> shape, TensorRole role) -> TensorSpec& {
    return table.emplace_back(TensorSpec{std::move(name), std::move(gguf), std::move(shape), role});
  };
  auto norm = [&](const char* name, const char* gguf, std::int64_t size) { add(name, gguf, {size}, TensorRole::norm); };
  auto linear = [&](const std::string& name, const std::string& gguf, std::int64_t out, std::int64_t in, bool bias,
                    std::int64_t rotary_heads = 0) {
    add(name + ".weight", gguf + ".weight", {out, in}, TensorRole::linear).rotary_heads = rotary_heads;
    if (bias) add(name + ".bias", gguf + ".bias", {out}, TensorRole::bias).rotary_heads = rotary_heads;
  };
  const std::int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;

  norm("input_layernorm.weight", "attn_norm.weight", s.hidden);
  if (s.fused_qkv) {
    linear("self_attn.qkv_proj", "attn_qkv", q + 2 * kv, s.hidden, s.qkv_bias);
  } else {
    linear("self_attn.q_proj", "attn_q", q, s.hidden, s.qkv_bias, s.heads);
    linear("self_attn.k_proj", "attn_k", kv, s.hidden, s.qkv_bias, s.kv_heads);
    linear("self_attn.v_proj", "attn_v", kv, s.hidden, s.qkv_bias);
  }
  if (s.qk_norm) {
    norm("self_attn.q_norm.weight", "attn_q_norm.weight", s.head_dim);
    norm("self_attn.k_norm.weight", "attn_k_norm.weight", s.head_dim);
  }
  linear("self_attn.o_proj", "attn_output", s.hidden, q, s.o_bias);
  if (s.post_norms) {
    norm("post_attention_layernorm.weight", "post_attention_norm.weight", s.hidden);
    norm("pre_feedforward_layernorm.weight", "ffn_norm.weight", s.hidden);
  } else {
    norm("post_attention_layernorm.weight", "ffn_norm.weight", s.hidden);
  }
  if (s.moe.experts > 0) {
    add(s.moe.block + ".gate.weight", "ffn_gate_inp.weight", {s.moe.experts, s.hidden}, TensorRole::router);
    for (std::int64_t e = 0; e < s.moe.experts; ++e) {
      const std::string expert = cat(s.moe.block, ".experts.", e, ".");
      add(expert + s.moe.gate + ".weight", "ffn_gate_exps.weight", {s.moe.ffn, s.hidden}, TensorRole::linear).expert = e;
      add(expert + s.moe.up + ".weight", "ffn_up_exps.weight", {s.moe.ffn, s.hidden}, TensorRole::linear).expert = e;
      add(expert + s.moe.down + ".weight", "ffn_down_exps.weight", {s.hidden, s.moe.ffn}, TensorRole::linear).expert = e;
    }
  } else if (s.fused_gate_up) {
    linear("mlp.gate_up_proj", "ffn_up", 2 * s.ffn, s.hidden, s.mlp_bias);
    linear("mlp.down_proj", "ffn_down", s.hidden, s.ffn, s.mlp_bias);
  } else {
    linear("mlp.gate_proj", "ffn_gate", s.ffn, s.hidden, s.mlp_bias);
    linear("mlp.up_proj", "ffn_up", s.ffn, s.hidden, s.mlp_bias);
    linear("mlp.down_proj", "ffn_down", s.hidden, s.ffn, s.mlp_bias);
  }
  if (s.post_norms) norm("post_feedforward_layernorm.weight", "post_ffw_norm.weight", s.hidden);
  return table;
}

std::vector<TensorSpec> outer_tensors(const ModelSpec& s) {
  std::vector<TensorSpec> table = {{"model.embed_tokens.weight", "token_embd.weight", {s.vocab, s.hidden}, TensorRole::embedding},
                                   {"model.norm.weight", "output_norm.weight", {s.hidden}, TensorRole::norm}};
  if (!s.tied_head) table.push_back({"lm_head.weight", "output.weight", {s.vocab, s.hidden}, TensorRole::head});
  return table;
}

// Splits "<prefix>N.<rest>"; false when the text is not of that form or N is not a layer of the spec.
bool split_layer(std::string_view text, std::string_view prefix, std::size_t layers, std::size_t& layer, std::string_view& rest) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  const std::size_t digits = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || layer >= layers || digits == text.size() || text[digits] != '.') return false;
  rest = text.substr(digits + 1);
  return true;
}

std::string translate(const ModelSpec& spec, const std::string& name, std::string TensorSpec::*from, std::string TensorSpec::*to,
                      std::string_view from_prefix, const char* to_prefix) {
  for (const TensorSpec& tensor : outer_tensors(spec))
    if (tensor.*from == name) return tensor.*to;
  std::size_t layer;
  std::string_view rest;
  if (!split_layer(name, from_prefix, spec.layers.size(), layer, rest)) return "";
  for (const TensorSpec& tensor : layer_tensors(spec))
    if (tensor.*from == rest) return cat(to_prefix, layer, ".", tensor.*to);
  return "";
}

}  // namespace

std::vector<TensorSpec> tensors_of(const ModelSpec& spec) {
  const std::vector<TensorSpec> outer = outer_tensors(spec), layer = layer_tensors(spec);
  std::vector<TensorSpec> table = {outer[0]};
  table.reserve(outer.size() + layer.size() * spec.layers.size());
  for (std::size_t i = 0; i < spec.layers.size(); ++i)
    for (TensorSpec tensor : layer) {
      tensor.name = cat("model.layers.", i, ".", tensor.name);
      tensor.gguf = cat("blk.", i, ".", tensor.gguf);
      table.push_back(std::move(tensor));
    }
  table.insert(table.end(), outer.begin() + 1, outer.end());
  return table;
}

std::string module_of(const std::string& tensor) {
  constexpr std::string_view kWeight = ".weight";
  return tensor.ends_with(kWeight) ? tensor.substr(0, tensor.size() - kWeight.size()) : "";
}

std::vector<LinearSpec> linears_of(const ModelSpec& spec) {
  std::vector<LinearSpec> linears;
  for (const TensorSpec& tensor : tensors_of(spec))
    if (tensor.role == TensorRole::linear || tensor.role == TensorRole::head)
      linears.push_back({module_of(tensor.name), tensor.expert});
  return linears;
}

std::string gguf_name(const ModelSpec& spec, const std::string& hf_name) {
  return translate(spec, hf_name, &TensorSpec::name, &TensorSpec::gguf, "model.layers.", "blk.");
}

std::string hf_name(const ModelSpec& spec, const std::string& gguf_name) {
  return translate(spec, gguf_name, &TensorSpec::gguf, &TensorSpec::name, "blk.", "model.layers.");
}

}  // namespace graft::model
