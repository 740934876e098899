// One training step, written out: forward with activations kept (or each layer's input only), loss, then the layers in reverse.
// The gradient of the residual stream is one (T, H) buffer updated in place; the walk ends at the lowest adapter.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/rng.h"
#include "core/stop.h"
#include "kernels/device.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/rope/rope.h"
#include "model/decoder_impl.h"

namespace graft::model {

std::int64_t DecoderImpl::lowest_adapter() const {
  std::int64_t lowest = std::numeric_limits<std::int64_t>::max();
  if (!adapters_enabled_) return lowest;
  const auto see = [&](std::int64_t layer, Stage stage, std::initializer_list<const FrozenLinear*> linears) {
    for (const FrozenLinear* linear : linears) {
      if (linear->adapter != nullptr) lowest = std::min(lowest, place(layer, stage));
    }
  };
  for (const Layer& layer : layers_) {
    see(layer.index, Stage::qkv, {&layer.q, &layer.k, &layer.v, &layer.qkv});
    see(layer.index, Stage::o, {&layer.o});
    const auto see_mlp = [&](const Mlp& mlp) {
      see(layer.index, Stage::gate_up, {&mlp.gate, &mlp.up, &mlp.gate_up});
      see(layer.index, Stage::down, {&mlp.down});
    };
    see_mlp(layer.mlp);
    for (const Mlp& expert : layer.experts) see_mlp(expert);
  }
  see(static_cast<std::int64_t>(layers_.size()), Stage::qkv, {&head_});
  return lowest;
}

TokenLoss DecoderImpl::train_step(const Packed& batch, const at::Tensor& labels, double scale, Recompute recompute,
                                  std::uint64_t dropout_seed) {
  const c10::InferenceMode no_autograd;
  Pass pass = begin(batch, true, dropout_seed);
  pass.lowest = lowest_adapter();
  const std::int64_t head_place = place(static_cast<std::int64_t>(layers_.size()), Stage::qkv);
  const auto trained = [&](const Layer& layer) { return pass.lowest <= place(layer.index, Stage::down); };

  std::vector<LayerSaved> saved(layers_.size());
  at::Tensor hidden = embed(batch.tokens), residual;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    LayerSaved dropped;
    const bool keep = trained(layers_[i]) && recompute == Recompute::none;
    LayerSaved& activations = keep ? saved[i] : dropped;
    const at::Tensor input = hidden;
    hidden = layer_forward(layers_[i], input, residual, pass, activations);
    residual = activations.middle;
    if (trained(layers_[i])) saved[i].input = input;
  }
  at::Tensor rstd;
  const at::Tensor normed = kernels::rms_norm_forward(hidden, final_norm_, norm_options(), &rstd, residual);

  kernels::LinearCrossEntropyOptions options;
  options.softcap = spec_.final_softcap;
  options.z_loss = loss_terms_.z_loss;
  options.label_smoothing = loss_terms_.label_smoothing;
  options.grad_scale = scale;
  options.want_grad = pass.lowest <= head_place;
  options.want_dx = pass.lowest < head_place;
  options.dropout_seed = Random(dropout_seed, Stream::dropout).bits(head_.ordinal);
  const auto head = kernels::linear_cross_entropy(normed, head_.weight, pass.adapters ? head_.adapter : nullptr, labels, options);
  if (!options.want_dx) return {head.sum, {}};

  at::Tensor dhidden = kernels::rms_norm_backward(head.dx, hidden, final_norm_, rstd, norm_options());
  for (std::size_t i = layers_.size(); i-- > 0 && trained(layers_[i]);) {
    LayerSaved activations = std::move(saved[i]);
    saved[i] = {};
    if (recompute == Recompute::layers) layer_forward(layers_[i], at::Tensor(activations.input), {}, pass, activations);
    layer_backward(layers_[i], dhidden, pass, activations);
  }
  kernels::wait_for_device();
  return {head.sum, {}};
}

at::Tensor DecoderImpl::mlp_backward(std::int64_t layer, const Mlp& mlp, const at::Tensor& dy, const at::Tensor& x,
                                     const Pass& pass, MlpSaved& saved) const {
  const bool need_inner = pass.lowest < place(layer, Stage::down), need_dx = pass.lowest < place(layer, Stage::gate_up);
  const auto down = parts({{&mlp.down, &saved.s_down}}, pass);
  if (!need_inner) {
    kernels::lora_group_backward({dy}, kernels::gated_activation_forward(saved.gate, saved.up, activation()), down, false);
    return {};
  }
  const auto inner_from = [&](const at::Tensor& dinner) {
    kernels::gated_activation_backward(dinner, saved.gate, saved.up, activation());
    return dinner;
  };
  kernels::lora_group_backward({dy}, inner_from, down);
  if (saved.fused.defined())
    return kernels::lora_group_backward({saved.fused}, x, parts({{&mlp.gate_up, &saved.s_gate_up}}, pass), need_dx);
  return kernels::lora_group_backward({saved.gate, saved.up}, x,
                                      parts({{&mlp.gate, &saved.s_gate}, {&mlp.up, &saved.s_up}}, pass), need_dx);
}

void DecoderImpl::layer_backward(const Layer& layer, at::Tensor dhidden, const Pass& pass, LayerSaved& saved) const {
  throw_if_stopped();
  const at::Tensor dmlp =
      spec_.post_norms ? kernels::rms_norm_backward(dhidden, saved.mlp_raw, layer.post_mlp_norm, saved.mlp_rstd, norm_options())
                       : dhidden;
  const at::Tensor dx2 = layer.experts.empty() ? mlp_backward(layer.index, layer.mlp, dmlp, saved.x2, pass, saved.mlp)
                                               : moe_backward(layer, dmlp, saved.x2, pass, saved.moe);
  if (pass.lowest >= place(layer.index, Stage::gate_up)) return;
  kernels::rms_norm_backward(dx2, saved.middle, layer.mlp_norm, saved.rstd2, norm_options(), dhidden);
  attention_block_backward(layer, dhidden, pass, saved);
}

void DecoderImpl::attention_block_backward(const Layer& layer, at::Tensor& dhidden, const Pass& pass, LayerSaved& saved) const {
  const std::int64_t tokens = dhidden.size(0), d = spec_.head_dim, heads = spec_.heads, kv_heads = spec_.kv_heads;
  const at::Tensor dout = spec_.post_norms ? kernels::rms_norm_backward(dhidden, saved.attention_raw, layer.post_attention_norm,
                                                                        saved.attention_rstd, norm_options())
                                           : dhidden;
  const at::Tensor attended = saved.attended.view({tokens, heads * d});
  const at::Tensor dattended = kernels::lora_group_backward({dout}, attended, parts({{&layer.o, &saved.s_o}}, pass),
                                                            pass.lowest < place(layer.index, Stage::o));
  if (pass.lowest >= place(layer.index, Stage::o)) return;

  at::Tensor dqkv, dq, dk, dv;
  if (spec_.fused_qkv) {
    dqkv = at::empty({tokens, (heads + 2 * kv_heads) * d}, dhidden.options());
    dq = dqkv.narrow(1, 0, heads * d);
    dk = dqkv.narrow(1, heads * d, kv_heads * d);
    dv = dqkv.narrow(1, (heads + kv_heads) * d, kv_heads * d);
  } else {
    dq = at::empty({tokens, heads * d}, dhidden.options());
    dk = at::empty({tokens, kv_heads * d}, dhidden.options());
    dv = at::empty_like(dk);
  }
  const at::Tensor dq_heads = dq.view({tokens, heads, d}), dk_heads = dk.view({tokens, kv_heads, d});
  kernels::attention_backward(dattended.view({tokens, heads, d}), saved.q, saved.k, saved.v, saved.attended, saved.lse,
                              pass.starts, attention_options(layer), dq_heads, dk_heads, dv.view({tokens, kv_heads, d}));
  if (layer.spec.rope) {
    const RopeRows& rope = layer.spec.local_rope ? pass.rope_local : pass.rope;
    kernels::rope_backward(dq_heads, rope.cos, rope.sin);
    kernels::rope_backward(dk_heads, rope.cos, rope.sin);
  }
  if (spec_.qk_norm) {
    if (spec_.fused_qkv) kernels::wait_for_device();  // the host copies
    const auto back = [&](at::Tensor& gradient, const at::Tensor& raw, const at::Tensor& gain, const at::Tensor& rstd) {
      gradient = kernels::rms_norm_backward(gradient.reshape({-1, d}), raw, gain, rstd, norm_options()).view({tokens, -1});
    };
    back(dq, saved.q_raw, layer.q_norm, saved.q_rstd);
    back(dk, saved.k_raw, layer.k_norm, saved.k_rstd);
  }
  const bool need_dx = pass.lowest < place(layer.index, Stage::qkv);
  at::Tensor dx;
  if (spec_.fused_qkv) {
    if (spec_.qk_norm) {
      kernels::wait_for_device();
      at::cat_out(dqkv, {dq, dk, dv.clone()}, 1);
    }
    dx = kernels::lora_group_backward({dqkv}, saved.x1, parts({{&layer.qkv, &saved.s_qkv}}, pass), need_dx);
  } else {
    dx = kernels::lora_group_backward(
        {dq, dk, dv}, saved.x1, parts({{&layer.q, &saved.s_q}, {&layer.k, &saved.s_k}, {&layer.v, &saved.s_v}}, pass), need_dx);
  }
  if (need_dx) kernels::rms_norm_backward(dx, saved.input, layer.input_norm, saved.rstd1, norm_options(), dhidden);
}

}  // namespace graft::model
