// The one implementation of Decoder: its weights, what a layer saves for its backward, and the steps that decoder*.cpp and
// moe.cpp share. Private to model/.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <limits>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/gated_activation/gated_activation.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/row_rounding/row_rounding.h"
#include "model/decoder.h"
#include "model/layer_walk.h"
#include "model/rope_table.h"

namespace graft::model {

struct FrozenLinear : Linear {
  std::uint64_t ordinal = 0;  // place in Decoder::linears(); keys its dropout
};

struct Mlp {
  FrozenLinear gate, up;  // or gate_up alone, gate's rows first (Phi-3)
  FrozenLinear gate_up, down;
};

struct Layer {
  std::int64_t index = 0;
  LayerSpec spec;
  at::Tensor input_norm, post_attention_norm;  // gain (H) each; post_attention_norm only with ModelSpec::post_norms
  at::Tensor mlp_norm, post_mlp_norm;
  FrozenLinear q, k, v;  // or qkv alone (Phi-3)
  FrozenLinear qkv, o;
  at::Tensor q_norm, k_norm;  // (D), with ModelSpec::qk_norm
  Mlp mlp;
  at::Tensor router;  // (experts, H), mixture of experts instead of mlp
  std::vector<Mlp> experts;
};

// Everything that is the same for all layers in one pass over the model.
struct Pass {
  std::span<const std::int32_t> starts;
  RopeRows rope, rope_local;
  Decoder::Cache* cache = nullptr;  // decoding: keys and values so far
  bool training = false;            // dropout is on and the linears save their low-rank products
  bool adapters = true;
  std::uint64_t dropout_seed = 0;
  const SeeInputs* see = nullptr;  // told of the input of every group of linears
  // Place of the lowest adapter, see stage(): the backward stops there.
  std::int64_t lowest = std::numeric_limits<std::int64_t>::max();
};

// Linears in the order of the forward: gradients of X are formed only where a lower place has an adapter.
enum class Stage : std::int64_t { qkv, o, gate_up, down };
inline std::int64_t place(std::int64_t layer, Stage stage) { return 4 * layer + static_cast<std::int64_t>(stage); }

struct MlpSaved {
  at::Tensor fused, gate, up;  // (n, F); gate and up may be halves of fused
  kernels::LoraLinearSaved s_gate, s_up, s_gate_up, s_down;
};

struct ExpertSaved {
  at::Tensor token, slot, x, out;  // rows (n) of x and their place in the top k; inputs and outputs (n, H)
  MlpSaved mlp;
};

struct MoeSaved {
  at::Tensor probability;          // (T, experts) f32, softmax of the router
  at::Tensor chosen, weight, sum;  // (T, k): experts; weights as used, f32; (T, 1) what normalised them
  std::vector<ExpertSaved> experts;
};

struct LayerSaved {
  at::Tensor input, x1, rstd1;  // (T, H), normalised (T, H), (T)
  at::Tensor fused, q, k, v;    // after norm and rotation; views into fused for a fused projection
  at::Tensor q_raw, k_raw, q_rstd, k_rstd;
  at::Tensor attended, lse;                  // (T, heads, D), (heads, T)
  at::Tensor attention_raw, attention_rstd;  // before post_attention_norm
  at::Tensor middle, x2, rstd2;              // residual stream between attention and MLP
  at::Tensor mlp_raw, mlp_rstd;
  kernels::LoraLinearSaved s_q, s_k, s_v, s_qkv, s_o;
  MlpSaved mlp;
  MoeSaved moe;
};

// A tensor by its Hugging Face name, contiguous, in the compute type.
using TensorLoader = std::function<at::Tensor(const std::string&)>;
Layer load_layer(const ModelSpec& spec, std::size_t index, const TensorLoader& load);

class DecoderImpl final : public Decoder {
 public:
  DecoderImpl(const WeightSource& source, at::ScalarType storage, at::ScalarType compute, BasePrecision precision);
  // The embedding alone; LayerWalkImpl brings the layers.
  DecoderImpl(const ModelSpec& spec, at::ScalarType compute, const TensorLoader& load);

  const ModelSpec& spec() const override { return spec_; }
  at::ScalarType compute() const override { return compute_; }
  std::vector<Linear*> linears() override;
  at::Tensor embedding() const override { return embedding_; }
  void set_adapters_enabled(bool enabled) override { adapters_enabled_ = enabled; }
  TokenLoss train_step(const Packed& batch, const at::Tensor& labels, double scale, Recompute recompute,
                       std::uint64_t dropout_seed) override;
  TokenLoss loss(const Packed& batch, const at::Tensor& labels, bool want_logprob) override;
  at::Tensor logits(const Packed& batch) override;
  Cache make_cache(std::int64_t capacity) override;
  at::Tensor logits_next(std::span<const std::int32_t> tokens, Cache& cache) override;
  std::int64_t weight_bytes() const override;

 private:
  friend class LayerWalkImpl;

  // decoder.cpp
  std::vector<FrozenLinear*> frozen_linears();

  // decoder_forward.cpp
  Pass begin(const Packed& batch, bool training, std::uint64_t dropout_seed) const;
  at::Tensor embed(const at::Tensor& tokens) const;                  // (T, H)
  at::Tensor run_layers(at::Tensor hidden, const Pass& pass) const;  // inference
  at::Tensor head_logits(const at::Tensor& hidden) const;            // (T, V) f32
  // The layer's input is hidden + residual, which becomes hidden; residual may be undefined. Returns the output of the MLP, which
  // with saved.middle as residual is the input of the next: each sum is taken by the norm that reads it.
  at::Tensor layer_forward(const Layer& layer, const at::Tensor& hidden, const at::Tensor& residual, const Pass& pass,
                           LayerSaved& saved) const;
  void project_qkv(const Layer& layer, const Pass& pass, LayerSaved& saved) const;
  at::Tensor attend_cached(const Layer& layer, const Pass& pass, const LayerSaved& saved) const;  // decoder_cache.cpp
  kernels::AttentionOptions attention_options(const Layer& layer) const;
  kernels::RmsNormOptions norm_options() const;
  using LinearUse = std::pair<const FrozenLinear*, kernels::LoraLinearSaved*>;
  std::vector<kernels::LoraPart> parts(std::initializer_list<LinearUse> uses, const Pass& pass) const;
  // Outputs of linears that read the same x.
  std::vector<at::Tensor> products(const at::Tensor& x, std::initializer_list<LinearUse> uses, const Pass& pass) const;
  at::Tensor mlp_forward(const Mlp& mlp, const at::Tensor& x, const Pass& pass, MlpSaved& saved) const;
  kernels::Activation activation() const;

  // decoder_backward.cpp. Gradients of the residual stream are updated in place.
  std::int64_t lowest_adapter() const;
  void layer_backward(const Layer& layer, at::Tensor dhidden, const Pass& pass, LayerSaved& saved) const;
  void attention_block_backward(const Layer& layer, at::Tensor& dhidden, const Pass& pass, LayerSaved& saved) const;
  // dX when a place below gate_up has an adapter, else undefined.
  at::Tensor mlp_backward(std::int64_t layer, const Mlp& mlp, const at::Tensor& dy, const at::Tensor& x, const Pass& pass,
                          MlpSaved& saved) const;

  // moe.cpp
  at::Tensor moe_forward(const Layer& layer, const at::Tensor& x, const Pass& pass, MoeSaved& saved) const;
  at::Tensor moe_backward(const Layer& layer, const at::Tensor& dy, const at::Tensor& x, const Pass& pass, MoeSaved& saved) const;

  ModelSpec spec_;
  at::ScalarType compute_;
  BasePrecision precision_ = BasePrecision::full;
  kernels::RowRounding inputs_ = kernels::RowRounding::none;  // of the layers' linears, outside of training
  bool adapters_enabled_ = true;
  at::Tensor embedding_, final_norm_;
  FrozenLinear head_;  // weight shared with the embedding when tied
  std::vector<Layer> layers_;
};

}  // namespace graft::model
