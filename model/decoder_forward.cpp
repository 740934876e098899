// The forward: embedding, layers, head. Every layer fills a LayerSaved; without a backward to come it is dropped at once.
#include <ATen/ATen.h>

#include "core/error.h"
#include "core/rng.h"
#include "core/stop.h"
#include "kernels/check.h"
#include "kernels/copy_rows/copy_rows.h"
#include "kernels/device.h"
#include "kernels/head_logits/head_logits.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/rope/rope.h"
#include "model/decoder_impl.h"

namespace graft::model {

kernels::Activation DecoderImpl::activation() const {
  return spec_.activation == Activation::silu ? kernels::Activation::silu : kernels::Activation::gelu_tanh;
}

kernels::RmsNormOptions DecoderImpl::norm_options() const { return {spec_.norm_eps, spec_.norm_gain_offset, spec_.norm_in_f32}; }

kernels::AttentionOptions DecoderImpl::attention_options(const Layer& layer) const {
  return {spec_.attention_scale, layer.spec.window, spec_.attention_softcap};
}

Pass DecoderImpl::begin(const Packed& batch, bool training, std::uint64_t dropout_seed) const {
  const std::int64_t tokens = batch.tokens.size(0);
  kernels::check_shape("decoder", "positions", batch.positions, {tokens}, "one for each token");
  if (batch.starts.empty() || batch.starts.back() != tokens) {
    throw DataError(cat("decoder: the last segment of the batch must end at its ", tokens, " tokens"));
  }
  Pass pass;
  pass.starts = batch.starts;
  pass.rope = rope_rows(spec_.rope, batch.positions, batch.starts);
  for (const LayerSpec& layer : spec_.layers) {
    if (!layer.local_rope) continue;
    pass.rope_local = rope_rows(spec_.rope_local, batch.positions, batch.starts);
    break;
  }
  pass.training = training;
  pass.adapters = adapters_enabled_;
  pass.dropout_seed = dropout_seed;
  return pass;
}

at::Tensor DecoderImpl::embed(const at::Tensor& tokens) const {
  if (tokens.numel() > 0) {
    const auto low = tokens.min().item<std::int64_t>(), high = tokens.max().item<std::int64_t>();
    if (low < 0 || high >= spec_.vocab) {
      throw DataError(cat("token id ", low < 0 ? low : high, " does not fit the base, whose vocabulary has ", spec_.vocab,
                          " entries; was the corpus prepared with another tokenizer?"));
    }
  }
  // The scale is rounded to the compute type first, as the reference does.
  const auto scale = at::scalar_tensor(spec_.embed_scale, embedding_.options()).item<double>();
  // A copy: a device may not reach the caller's memory.
  return kernels::take_rows(embedding_, tokens.to(at::kLong, /*non_blocking=*/false, /*copy=*/true), scale);
}

std::vector<kernels::LoraPart> DecoderImpl::parts(std::initializer_list<LinearUse> uses, const Pass& pass) const {
  std::vector<kernels::LoraPart> parts;
  for (const auto& [linear, saved] : uses) {
    saved->dropout_seed = Random(pass.dropout_seed, Stream::dropout).bits(linear->ordinal);
    parts.push_back({linear->weight, linear->bias, pass.adapters ? linear->adapter : nullptr, pass.training ? saved : nullptr,
                     linear->coded.get()});
  }
  return parts;
}

std::vector<at::Tensor> DecoderImpl::products(const at::Tensor& x, std::initializer_list<LinearUse> uses,
                                              const Pass& pass) const {
  if (pass.see != nullptr) {
    std::vector<const Linear*> linears;
    for (const auto& [linear, saved] : uses) linears.push_back(linear);
    kernels::wait_for_device();
    (*pass.see)(linears, x);
  }
  // Training goes on as though the inputs were not rounded: its gradients are those of the inputs as they are.
  if (pass.training || inputs_ == kernels::RowRounding::none) return kernels::lora_group_forward(x, parts(uses, pass));
  float scale = 0;  // linears that are served as one have the largest of their scales (vLLM's compressed_tensors_w8a8_fp8.py)
  for (const auto& [linear, saved] : uses) scale = std::max(scale, linear->input_scale);
  return kernels::lora_group_forward(kernels::rounded_rows(x, inputs_, scale), parts(uses, pass));
}

void DecoderImpl::project_qkv(const Layer& layer, const Pass& pass, LayerSaved& saved) const {
  const std::int64_t tokens = saved.x1.size(0), d = spec_.head_dim, heads = spec_.heads, kv_heads = spec_.kv_heads;
  if (spec_.fused_qkv) {
    saved.fused = products(saved.x1, {{&layer.qkv, &saved.s_qkv}}, pass).front();
    saved.q = saved.fused.narrow(1, 0, heads * d).view({tokens, heads, d});
    saved.k = saved.fused.narrow(1, heads * d, kv_heads * d).view({tokens, kv_heads, d});
    saved.v = saved.fused.narrow(1, (heads + kv_heads) * d, kv_heads * d).view({tokens, kv_heads, d});
  } else {
    const auto qkv = products(saved.x1, {{&layer.q, &saved.s_q}, {&layer.k, &saved.s_k}, {&layer.v, &saved.s_v}}, pass);
    saved.q = qkv[0].view({tokens, heads, d});
    saved.k = qkv[1].view({tokens, kv_heads, d});
    saved.v = qkv[2].view({tokens, kv_heads, d});
  }
  if (spec_.qk_norm) {
    if (spec_.fused_qkv) kernels::wait_for_device();  // these are copies then
    saved.q_raw = saved.q.reshape({tokens * heads, d});
    saved.k_raw = saved.k.reshape({tokens * kv_heads, d});
    saved.q = kernels::rms_norm_forward(saved.q_raw, layer.q_norm, norm_options(), &saved.q_rstd).view({tokens, heads, d});
    saved.k = kernels::rms_norm_forward(saved.k_raw, layer.k_norm, norm_options(), &saved.k_rstd).view({tokens, kv_heads, d});
  }
  if (!layer.spec.rope) return;
  const RopeRows& rope = layer.spec.local_rope ? pass.rope_local : pass.rope;
  kernels::rope_forward(saved.q, rope.cos, rope.sin);
  kernels::rope_forward(saved.k, rope.cos, rope.sin);
}

at::Tensor DecoderImpl::mlp_forward(const Mlp& mlp, const at::Tensor& x, const Pass& pass, MlpSaved& saved) const {
  if (!mlp.gate_up.name.empty()) {
    saved.fused = products(x, {{&mlp.gate_up, &saved.s_gate_up}}, pass).front();
    const std::int64_t ffn = saved.fused.size(1) / 2;
    saved.gate = saved.fused.narrow(1, 0, ffn);
    saved.up = saved.fused.narrow(1, ffn, ffn);
  } else {
    const auto both = products(x, {{&mlp.gate, &saved.s_gate}, {&mlp.up, &saved.s_up}}, pass);
    saved.gate = both[0];
    saved.up = both[1];
  }
  const at::Tensor inner = kernels::gated_activation_forward(saved.gate, saved.up, activation());
  return products(inner, {{&mlp.down, &saved.s_down}}, pass).front();
}

at::Tensor DecoderImpl::layer_forward(const Layer& layer, const at::Tensor& hidden, const at::Tensor& residual, const Pass& pass,
                                      LayerSaved& saved) const {
  throw_if_stopped();
  const std::int64_t tokens = hidden.size(0);
  saved.input = hidden;
  saved.x1 = kernels::rms_norm_forward(hidden, layer.input_norm, norm_options(), &saved.rstd1, residual);
  project_qkv(layer, pass, saved);
  saved.attended = pass.cache != nullptr
                       ? attend_cached(layer, pass, saved)
                       : kernels::attention_forward(saved.q, saved.k, saved.v, pass.starts, attention_options(layer), &saved.lse);
  const at::Tensor attended = saved.attended.view({tokens, spec_.heads * spec_.head_dim});
  at::Tensor out = products(attended, {{&layer.o, &saved.s_o}}, pass).front();
  if (spec_.post_norms) {
    saved.attention_raw = out;
    out = kernels::rms_norm_forward(out, layer.post_attention_norm, norm_options(), &saved.attention_rstd);
  }
  saved.middle = out;

  saved.x2 = kernels::rms_norm_forward(saved.middle, layer.mlp_norm, norm_options(), &saved.rstd2, hidden);
  out = layer.experts.empty() ? mlp_forward(layer.mlp, saved.x2, pass, saved.mlp) : moe_forward(layer, saved.x2, pass, saved.moe);
  if (spec_.post_norms) {
    saved.mlp_raw = out;
    out = kernels::rms_norm_forward(out, layer.post_mlp_norm, norm_options(), &saved.mlp_rstd);
  }
  return out;
}

at::Tensor DecoderImpl::run_layers(at::Tensor hidden, const Pass& pass) const {
  at::Tensor residual;
  for (const Layer& layer : layers_) {
    LayerSaved dropped;
    hidden = layer_forward(layer, hidden, residual, pass, dropped);
    residual = dropped.middle;
  }
  return kernels::rms_norm_forward(hidden, final_norm_, norm_options(), nullptr, residual);
}

at::Tensor DecoderImpl::head_logits(const at::Tensor& hidden) const {
  at::Tensor logits = kernels::head_logits(hidden, head_.weight, adapters_enabled_ ? head_.adapter : nullptr);
  kernels::wait_for_device();
  if (spec_.final_softcap > 0) logits.div_(spec_.final_softcap).tanh_().mul_(spec_.final_softcap);
  return logits;
}

at::Tensor DecoderImpl::logits(const Packed& batch) {
  const c10::InferenceMode no_autograd;
  const Pass pass = begin(batch, false, 0);
  return head_logits(run_layers(embed(batch.tokens), pass));
}

TokenLoss DecoderImpl::loss(const Packed& batch, const at::Tensor& labels, bool want_logprob) {
  const c10::InferenceMode no_autograd;
  const Pass pass = begin(batch, false, 0);
  const at::Tensor hidden = run_layers(embed(batch.tokens), pass);
  kernels::LinearCrossEntropyOptions options;
  options.softcap = spec_.final_softcap;
  options.want_logprob = want_logprob;
  auto result = kernels::linear_cross_entropy(hidden, head_.weight, adapters_enabled_ ? head_.adapter : nullptr, labels, options);
  return {result.sum, result.logprob, hidden};
}

}  // namespace graft::model
