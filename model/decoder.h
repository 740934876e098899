// One decoder for every family, driven by ModelSpec. Forward and backward are written out (no autograd engine): each saves what
// its backward needs, gradients flow to the adapters and never to the base. See docs/decisions/0002-explicit-backward.md.
//
// Legend: T packed tokens of all segments, H hidden, V vocabulary, D head_dim.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/lora_linear/lora_linear.h"
#include "model/spec.h"
#include "model/weights.h"

namespace graft::model {

struct Linear {
  std::string name;                                   // HF module path without ".weight": "model.layers.0.mlp.up_proj"
  at::Tensor weight, bias;                            // (N, K), (N) or undefined; compute dtype
  kernels::LowRank* adapter = nullptr;                // not owned; set by lora/attach
  std::shared_ptr<const kernels::CodedWeight> coded;  // instead of weight
  float input_scale = 0;                              // WeightSource::input_scale

  std::int64_t out() const, in() const;  // N, K
};

// full: every weight in the compute type. int8, nf4: those of the layers' linears in codes (kernels/lora_linear/coded_weight.h);
// embedding, norms, routers and head as before.
enum class BasePrecision { full, int8, nf4 };
// A dense weight in codes; precision is not full. DataError for a value that is not finite.
std::shared_ptr<const kernels::CodedWeight> coded(const at::Tensor& weight, BasePrecision precision);

// T tokens of packed segments (data/batch_source.h).
struct Packed {
  at::Tensor tokens, positions;      // (T) int64, int32 or int64
  std::vector<std::int32_t> starts;  // segment boundaries, (segments + 1)
};

enum class Recompute { none, layers };  // layers: keep each layer's input only, run its forward again in backward

// What training adds to the negative log likelihood (linear_cross_entropy.h has the formula).
struct LossTerms {
  double z_loss = 0, label_smoothing = 0;
};

struct TokenLoss {
  double sum = 0;          // over trained tokens of the negative log likelihood, nats; in training with its LossTerms
  at::Tensor logprob;      // (trained tokens) f32 natural log probabilities of the labels, when asked for
  at::Tensor hidden = {};  // (T, H) in the compute type: what the head was given; of loss() only
};

class Decoder {
 public:
  // compute: f32 or bf16. Weights are first rounded to `storage` (bf16: the base as everyone else has it; f32: as in the file),
  // then put in codes one by one: what is in memory meanwhile is the result and one full weight.
  static std::unique_ptr<Decoder> load(const WeightSource& source, at::ScalarType storage, at::ScalarType compute,
                                       BasePrecision precision = BasePrecision::full);
  virtual ~Decoder() = default;

  virtual const ModelSpec& spec() const = 0;
  virtual at::ScalarType compute() const = 0;
  virtual std::vector<Linear*> linears() = 0;           // every linear an adapter may attach to, lm_head last (if untied)
  virtual at::Tensor embedding() const = 0;             // (V, H); the head's weight too when tied
  virtual void set_adapters_enabled(bool enabled) = 0;  // false: the bare base, for reference losses
  void set_loss_terms(const LossTerms& terms) { loss_terms_ = terms; }

  // Training: loss of the packed run and gradients into the adapters' grad_a/grad_b (accumulated). labels (T) int64 with -100 for
  // no loss; `scale` multiplies the loss gradient (1 / trained tokens of the whole global batch). dropout_seed: of this
  // micro-batch. Returns the unscaled sum.
  virtual TokenLoss train_step(const Packed& batch, const at::Tensor& labels, double scale, Recompute recompute,
                               std::uint64_t dropout_seed) = 0;
  // Forward only.
  virtual TokenLoss loss(const Packed& batch, const at::Tensor& labels, bool want_logprob) = 0;
  virtual at::Tensor logits(const Packed& batch) = 0;  // (T, V) f32; for tests and short inputs

  // Incremental decoding of one sequence.
  struct Cache {
    std::vector<at::Tensor> keys, values;  // per layer (capacity, kv_heads, D)
    std::int64_t length = 0;
    std::vector<std::int32_t> tokens;  // so far, where the rotation of old ones depends on the length (longrope)
  };
  virtual Cache make_cache(std::int64_t capacity) = 0;
  virtual at::Tensor logits_next(std::span<const std::int32_t> tokens, Cache& cache) = 0;  // (V) f32 after the last token

  virtual std::int64_t weight_bytes() const = 0;

 protected:
  LossTerms loss_terms_;  // of train_step
};

// Before anything is loaded. activation_bytes: peak estimate of train_step; evaluation_bytes: of a pass that keeps nothing.
std::int64_t weight_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision);
std::int64_t evaluation_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision, std::int64_t tokens);
std::int64_t activation_bytes(const ModelSpec& spec, at::ScalarType compute, BasePrecision precision, std::int64_t tokens,
                              Recompute recompute);

}  // namespace graft::model
