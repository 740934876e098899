// Loading the frozen base, and what can be said of it without running it.
#include "model/decoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "core/error.h"
#include "core/stop.h"
#include "kernels/attention/attention_cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/device.h"
#include "kernels/device_memory.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/lora_linear/coded_weight.h"
#include "model/decoder_impl.h"
#include "model/tensors.h"

namespace graft::model {

std::shared_ptr<const kernels::CodedWeight> coded(const at::Tensor& weight, BasePrecision precision) {
  using Coded = kernels::CodedWeight;
  return std::make_shared<const Coded>(precision == BasePrecision::int8 ? Coded{kernels::Int8Weight(weight)}
                                                                        : Coded{kernels::Nf4Weight(weight)});
}

namespace {

struct Loader {
  const TensorLoader& load;
  BasePrecision precision = BasePrecision::full;

  at::Tensor tensor(const std::string& name) const {
    throw_if_stopped();
    return load(name);
  }
  FrozenLinear dense(const std::string& name, bool bias) const {
    FrozenLinear linear;
    linear.name = name;
    linear.weight = tensor(name + ".weight");
    if (bias) linear.bias = tensor(name + ".bias");
    return linear;
  }
  FrozenLinear linear(const std::string& name, bool bias) const {
    FrozenLinear linear = dense(name, bias);
    if (precision == BasePrecision::full) {
      kernels::prefetch(linear.weight);
      return linear;
    }
    try {
      linear.coded = coded(linear.weight, precision);
    } catch (const DataError& error) {
      throw DataError(cat("tensor ", name, ".weight: ", error.what()));
    }
    linear.weight.reset();
    return linear;
  }
  Mlp mlp(const ModelSpec& spec, const std::string& prefix) const {
    Mlp mlp;
    if (spec.fused_gate_up) {
      mlp.gate_up = linear(prefix + "gate_up_proj", spec.mlp_bias);
    } else {
      mlp.gate = linear(prefix + "gate_proj", spec.mlp_bias);
      mlp.up = linear(prefix + "up_proj", spec.mlp_bias);
    }
    mlp.down = linear(prefix + "down_proj", spec.mlp_bias);
    return mlp;
  }
  Mlp expert(const MoeSpec& moe, const std::string& prefix) const {
    Mlp mlp;
    mlp.gate = linear(prefix + moe.gate, false);
    mlp.up = linear(prefix + moe.up, false);
    mlp.down = linear(prefix + moe.down, false);
    return mlp;
  }
  Layer layer(const ModelSpec& spec, std::size_t index) const {
    const std::string prefix = cat("model.layers.", index, "."), attention = prefix + "self_attn.";
    Layer layer;
    layer.index = static_cast<std::int64_t>(index);
    layer.spec = spec.layers[index];
    layer.input_norm = tensor(prefix + "input_layernorm.weight");
    if (spec.fused_qkv) {
      layer.qkv = linear(attention + "qkv_proj", spec.qkv_bias);
    } else {
      layer.q = linear(attention + "q_proj", spec.qkv_bias);
      layer.k = linear(attention + "k_proj", spec.qkv_bias);
      layer.v = linear(attention + "v_proj", spec.qkv_bias);
    }
    if (spec.qk_norm) {
      layer.q_norm = tensor(attention + "q_norm.weight");
      layer.k_norm = tensor(attention + "k_norm.weight");
    }
    layer.o = linear(attention + "o_proj", spec.o_bias);
    // Where there are norms after the blocks, "post_attention" is what it says; elsewhere it is the norm before the MLP.
    if (spec.post_norms) layer.post_attention_norm = tensor(prefix + "post_attention_layernorm.weight");
    layer.mlp_norm = tensor(prefix + (spec.post_norms ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight"));
    if (spec.post_norms) layer.post_mlp_norm = tensor(prefix + "post_feedforward_layernorm.weight");
    if (spec.moe.experts == 0) {
      layer.mlp = mlp(spec, prefix + "mlp.");
      return layer;
    }
    const std::string block = cat(prefix, spec.moe.block, ".");
    layer.router = tensor(block + "gate.weight");
    for (std::int64_t e = 0; e < spec.moe.experts; ++e) {
      layer.experts.push_back(expert(spec.moe, cat(block, "experts.", e, ".")));
    }
    return layer;
  }
};

void add_present(std::vector<FrozenLinear*>& list, std::initializer_list<FrozenLinear*> linears) {
  for (FrozenLinear* linear : linears) {
    if (!linear->name.empty()) list.push_back(linear);
  }
}

std::int64_t elements(const TensorSpec& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t bytes_of(const at::Tensor& tensor) { return tensor.defined() ? static_cast<std::int64_t>(tensor.nbytes()) : 0; }

}  // namespace

std::int64_t Linear::out() const { return coded ? coded->out() : weight.size(0); }
std::int64_t Linear::in() const { return coded ? coded->in() : weight.size(1); }

std::unique_ptr<Decoder> Decoder::load(const WeightSource& source, at::ScalarType storage, at::ScalarType compute,
                                       BasePrecision precision) {
  return std::make_unique<DecoderImpl>(source, storage, compute, precision);
}

Layer load_layer(const ModelSpec& spec, std::size_t index, const TensorLoader& load) { return Loader{load}.layer(spec, index); }

DecoderImpl::DecoderImpl(const ModelSpec& spec, at::ScalarType compute, const TensorLoader& load)
    : spec_(spec), compute_(compute), embedding_(Loader{load}.tensor("model.embed_tokens.weight")) {}

DecoderImpl::DecoderImpl(const WeightSource& source, at::ScalarType storage, at::ScalarType compute, BasePrecision precision)
    : spec_(source.spec()), compute_(compute), precision_(precision), inputs_(source.inputs()) {
  // Rounded to the storage type, then widened to the compute type.
  const TensorLoader load = [&](const std::string& name) { return source.load(name, storage).to(compute).contiguous(); };
  const Loader loader{load, precision};
  embedding_ = loader.tensor("model.embed_tokens.weight");
  kernels::prefetch(embedding_);
  layers_.reserve(spec_.layers.size());
  for (std::size_t i = 0; i < spec_.layers.size(); ++i) layers_.push_back(loader.layer(spec_, i));
  final_norm_ = loader.tensor("model.norm.weight");
  if (spec_.tied_head) {
    head_.name = "lm_head";
    head_.weight = embedding_;
  } else {
    head_ = loader.dense("lm_head", false);
    kernels::prefetch(head_.weight);
  }
  std::uint64_t ordinal = 0;
  for (FrozenLinear* linear : frozen_linears()) {
    linear->ordinal = ordinal++;
    linear->input_scale = source.input_scale(linear->name + ".weight");
  }
}

std::vector<FrozenLinear*> DecoderImpl::frozen_linears() {
  std::vector<FrozenLinear*> list;
  for (Layer& layer : layers_) {
    add_present(list, {&layer.q, &layer.k, &layer.v, &layer.qkv, &layer.o});
    add_present(list, {&layer.mlp.gate, &layer.mlp.up, &layer.mlp.gate_up, &layer.mlp.down});
    for (Mlp& expert : layer.experts) add_present(list, {&expert.gate, &expert.up, &expert.down});
  }
  if (!spec_.tied_head) list.push_back(&head_);
  return list;
}

std::vector<Linear*> DecoderImpl::linears() {
  const auto list = frozen_linears();
  return {list.begin(), list.end()};
}

std::int64_t DecoderImpl::weight_bytes() const {
  std::int64_t bytes = bytes_of(embedding_) + bytes_of(final_norm_) + (spec_.tied_head ? 0 : bytes_of(head_.weight));
  const auto add = [&](const FrozenLinear& linear) {
    bytes += bytes_of(linear.weight) + bytes_of(linear.bias) + (linear.coded ? linear.coded->bytes() : 0);
  };
  const auto add_mlp = [&](const Mlp& mlp) {
    for (const auto* linear : {&mlp.gate, &mlp.up, &mlp.gate_up, &mlp.down}) add(*linear);
  };
  for (const Layer& layer : layers_) {
    for (const auto* linear : {&layer.q, &layer.k, &layer.v, &layer.qkv, &layer.o}) add(*linear);
    add_mlp(layer.mlp);
    for (const Mlp& expert : layer.experts) add_mlp(expert);
    for (const auto* norm : {&layer.input_norm, &layer.post_attention_norm, &layer.mlp_norm, &layer.post_mlp_norm, &layer.q_norm,
                             &layer.k_norm, &layer.router}) {
      bytes += bytes_of(*norm);
    }
  }
  return bytes;
}

std::int64_t weight_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision) {
  std::int64_t bytes = 0;
  for (const TensorSpec& tensor : tensors_of(spec)) {
    const std::int64_t size = elements(tensor);
    if (precision == BasePrecision::full || tensor.role != TensorRole::linear)
      bytes += size * static_cast<std::int64_t>(c10::elementSize(compute));
    else if (precision == BasePrecision::int8)
      bytes += 2 * size + 8 * (tensor.shape[0] + tensor.shape[1]);  // codes in two directions; a scale and a sum for each column
    else
      bytes += kernels::nf4_bytes(size);
  }
  return bytes;
}

namespace {

// What the processor's kernels keep between calls: weights packed for products (kernels/cpu/gemm.h), one side of attention
// turned, and where bf16 is multiplied as f32 both copied (attention_cpu_impl.h), the parts of dK and dV
// (attention_cpu_backward.cpp).
std::int64_t scratch_bytes(const ModelSpec& spec, at::ScalarType compute, std::int64_t tokens, std::int64_t widest) {
  const auto element = static_cast<std::int64_t>(c10::elementSize(compute));
  const std::int64_t kv = spec.kv_heads * spec.head_dim, padded = (spec.head_dim + 15) / 16 * 16;
  std::int64_t packed = 0;
  const auto both_ways = [&](std::int64_t rows, std::int64_t wide) {
    packed = std::max({packed, kernels::cpu::gemm_scratch_bytes(rows, wide, spec.hidden, element),
                       kernels::cpu::gemm_scratch_bytes(rows, spec.hidden, wide, element)});
  };
  both_ways(tokens, spec.heads * spec.head_dim + 2 * kv);
  both_ways(tokens, widest);
  both_ways(std::min(tokens, kernels::linear_cross_entropy_chunk(spec.vocab, element)), spec.vocab);
  const bool widened = compute == at::kBFloat16 && !kernels::cpu::has_bf16_dot();
  return packed + tokens * kv * (widened ? 3 * 4 : element) + kernels::cpu::partial_rows(tokens) * spec.heads * padded * 8;
}

enum class Keeps { all_layers, their_inputs, nothing };

// What LayerSaved holds, times the layers that are alive at once, plus the widest moment of one layer or of the head.
std::int64_t pass_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision, std::int64_t tokens,
                        Keeps keeps) {
  const auto element = static_cast<std::int64_t>(c10::elementSize(compute));
  const std::int64_t h = spec.hidden, q = spec.heads * spec.head_dim, kv = spec.kv_heads * spec.head_dim;
  const std::int64_t copies = spec.moe.experts > 0 ? spec.moe.per_token : 1;
  const std::int64_t ffn = spec.moe.experts > 0 ? spec.moe.ffn : spec.ffn;
  std::int64_t layer = 4 * h + 2 * q + 2 * kv + copies * 2 * ffn;  // input, x1, middle, x2; q, attended; k, v; gate, up
  if (spec.post_norms) layer += 2 * h;
  if (spec.qk_norm) layer += q + kv;
  if (spec.moe.experts > 0) layer += copies * 2 * h;
  const auto layers = static_cast<std::int64_t>(spec.layers.size());
  const std::int64_t alive = keeps == Keeps::nothing ? layer : keeps == Keeps::their_inputs ? layers * h + layer : layers * layer;
  const std::int64_t passing = 4 * h + std::max(copies * 2 * ffn, 2 * q + 4 * kv);
  const std::int64_t codes = precision == BasePrecision::int8 ? copies * 2 * ffn : 0;  // of the rows of a product
  std::int64_t numbers = 0;  // of one weight in NF4, where the products are the library's
  if (precision == BasePrecision::nf4)
    for (const TensorSpec& tensor : tensors_of(spec))
      if (tensor.role == TensorRole::linear) numbers = std::max(numbers, elements(tensor));
  const std::int64_t chunk =
      std::min(tokens, kernels::linear_cross_entropy_chunk(spec.vocab, element)) * spec.vocab;  // of logits
  const std::int64_t scratch = kernels::device() == kernels::Device::cpu ? scratch_bytes(spec, compute, tokens, 2 * ffn) : 0;
  return tokens * ((alive + passing) * element + codes) + (numbers + chunk) * element + scratch;
}

}  // namespace

std::int64_t activation_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision, std::int64_t tokens,
                              Recompute recompute) {
  return pass_bytes(spec, compute, precision, tokens, recompute == Recompute::layers ? Keeps::their_inputs : Keeps::all_layers);
}

std::int64_t evaluation_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision, std::int64_t tokens) {
  return pass_bytes(spec, compute, precision, tokens, Keeps::nothing);
}

}  // namespace graft::model
