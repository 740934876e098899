// A decoder small enough to follow by hand, for tests of what surrounds a decoder: a bigram model with two linears that take
// adapters,
//   x = E[token] (T, 8);  h = x + up(x);  logits = head(h) (T, V),
// written with plain ATen in f32. It has no attention, so it says nothing about packing.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <functional>

#include "model/decoder.h"

namespace graft::testing {

class FakeDecoder final : public model::Decoder {
 public:
  static constexpr std::int64_t kHidden = 8;

  explicit FakeDecoder(std::int64_t vocab = 61) {
    spec_.architecture = spec_.family = "fake";
    spec_.vocab = vocab;
    spec_.hidden = kHidden;
    spec_.context = 64;
    auto generator = at::detail::createCPUGenerator(5);
    embedding_ = at::randn({vocab, kHidden}, generator, at::kFloat);
    up_.name = "model.layers.0.mlp.up_proj";
    up_.weight = at::randn({kHidden, kHidden}, generator, at::kFloat).mul_(0.3);
    head_.name = "lm_head";
    head_.weight = at::randn({vocab, kHidden}, generator, at::kFloat).mul_(0.3);
  }

  // Called before each train_step with the number of calls so far, e.g. to raise a signal; a true return makes the gradients NaN.
  std::function<bool(std::int64_t)> on_train_step;

  const model::LossTerms& loss_terms() const { return loss_terms_; }
  const model::ModelSpec& spec() const override { return spec_; }
  at::ScalarType compute() const override { return at::kFloat; }
  std::vector<model::Linear*> linears() override { return {&up_, &head_}; }
  at::Tensor embedding() const override { return embedding_; }
  void set_adapters_enabled(bool enabled) override { enabled_ = enabled; }

  model::TokenLoss train_step(const model::Packed& batch, const at::Tensor& labels, double scale, model::Recompute,
                              std::uint64_t) override {
    const bool poison = on_train_step && on_train_step(calls_);
    ++calls_;
    const Forward f = forward(batch.tokens);
    const at::Tensor keep = labels.ne(-100), rows = keep.nonzero().flatten();
    const at::Tensor target = labels.masked_select(keep), logp = f.logits.index_select(0, rows).log_softmax(1);
    at::Tensor d_logits = at::zeros_like(f.logits);
    at::Tensor d = logp.exp();
    d.scatter_add_(1, target.unsqueeze(1), at::full({rows.numel(), 1}, -1.0f));
    d_logits.index_copy_(0, rows, d.mul(scale));
    const at::Tensor dh = backward(head_, f.h, d_logits);
    backward(up_, f.x, dh);
    if (poison && up_.adapter) up_.adapter->grad_b.view({-1})[0] = std::numeric_limits<float>::quiet_NaN();
    return {-logp.gather(1, target.unsqueeze(1)).to(at::kDouble).sum().item<double>(), {}};
  }

  model::TokenLoss loss(const model::Packed& batch, const at::Tensor& labels, bool want_logprob) override {
    const at::Tensor keep = labels.ne(-100), target = labels.masked_select(keep);
    const at::Tensor logp = forward(batch.tokens).logits.index_select(0, keep.nonzero().flatten()).log_softmax(1);
    const at::Tensor chosen = logp.gather(1, target.unsqueeze(1)).flatten();
    return {-chosen.to(at::kDouble).sum().item<double>(), want_logprob ? chosen : at::Tensor()};
  }
  at::Tensor logits(const model::Packed& batch) override { return forward(batch.tokens).logits; }

  Cache make_cache(std::int64_t) override { return {}; }
  at::Tensor logits_next(std::span<const std::int32_t> tokens, Cache& cache) override {
    cache.length += static_cast<std::int64_t>(tokens.size());
    return forward(at::full({1}, tokens.back(), at::kLong)).logits[0];
  }

  std::int64_t weight_bytes() const override { return embedding_.nbytes() + up_.weight.nbytes() + head_.weight.nbytes(); }

 private:
  struct Forward {
    at::Tensor x, h, logits;
  };
  bool adapted(const model::Linear& linear) const { return linear.adapter && enabled_; }
  at::Tensor apply(const model::Linear& linear, const at::Tensor& x) const {
    at::Tensor y = x.mm(linear.weight.t());
    if (adapted(linear)) y = y + x.mm(linear.adapter->a.t()).mm(linear.adapter->b.t()) * linear.adapter->scale;
    return y;
  }
  Forward forward(const at::Tensor& tokens) const {
    Forward f;
    f.x = embedding_.index_select(0, tokens);
    f.h = f.x + apply(up_, f.x);
    f.logits = apply(head_, f.h);
    return f;
  }
  at::Tensor backward(model::Linear& linear, const at::Tensor& x, const at::Tensor& dy) {
    at::Tensor dx = dy.mm(linear.weight);
    if (!adapted(linear)) return dx;
    kernels::LowRank& l = *linear.adapter;
    const at::Tensor ds = dy.mm(l.b) * l.scale;
    l.grad_b.add_(dy.t().mm(x.mm(l.a.t())) * l.scale);
    l.grad_a.add_(ds.t().mm(x));
    return dx + ds.mm(l.a);
  }

  model::ModelSpec spec_;
  at::Tensor embedding_;
  model::Linear up_, head_;
  bool enabled_ = true;
  std::int64_t calls_ = 0;
};

}  // namespace graft::testing
