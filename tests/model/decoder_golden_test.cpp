// The decoder against transformers and PEFT: tiny random models of every family (scripts/make_golden_models.py), in f32.
#include <cstdio>

#include "tests/support/catch.h"
#include "tests/support/golden_model.h"

namespace graft::model {
namespace {

using namespace graft::testing;

// Largest absolute difference over the largest value; NaN anywhere is infinity.
double relative_error(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.sizes() == want.sizes());
  const auto difference = (got.to(at::kDouble) - want.to(at::kDouble)).abs();
  if (difference.isnan().any().item<bool>()) return std::numeric_limits<double>::infinity();
  return difference.max().item<double>() / want.abs().max().to(at::kDouble).item<double>();
}

// Mean and largest Kullback-Leibler divergence of a token's distribution from the golden one, nats.
struct Divergence {
  double mean, largest;
};
Divergence divergence(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor p = at::log_softmax(want.to(at::kDouble), -1), q = at::log_softmax(got.to(at::kDouble), -1);
  const at::Tensor kl = (p.exp() * (p - q)).sum(-1);
  return {kl.mean().item<double>(), kl.max().item<double>()};
}

}  // namespace

TEST_CASE("logits, losses and adapter gradients equal transformers' and PEFT's for every family", "[decoder][golden]") {
  std::size_t models = 0, tensors = 0;
  double worst = 0;
  for (const std::string& name : golden_models()) {
    ++models;
    INFO(name);
    const Golden golden(name);
    const auto decoder = golden.load();
    CHECK(relative_error(decoder->logits(golden.batch), golden.tensor("logits")) < 1e-4);
    const double loss = decoder->loss(golden.batch, golden.labels, false).sum;
    CHECK(loss == Approx(golden.tensor("loss_sum").item<double>()).epsilon(1e-5));

    const auto adapters = golden.attach(*decoder);
    CHECK(relative_error(decoder->logits(golden.batch), golden.tensor("adapter_logits")) < 1e-4);
    const double adapter_loss = golden.tensor("adapter_loss_sum").item<double>();
    CHECK(decoder->loss(golden.batch, golden.labels, false).sum == Approx(adapter_loss).epsilon(1e-5));
    const double trained = golden.labels.ne(-100).sum().item<double>();
    zero_gradients(adapters);
    CHECK(decoder->train_step(golden.batch, golden.labels, 1 / trained, Recompute::none, 0).sum ==
          Approx(adapter_loss).epsilon(1e-5));
    for (Linear* linear : decoder->linears()) {
      if (linear->adapter == nullptr) continue;
      const std::string prefix = "grad.base_model.model." + linear->name;
      for (const auto& [gradient, suffix] :
           {std::pair{linear->adapter->grad_a, ".lora_A.weight"}, {linear->adapter->grad_b, ".lora_B.weight"}}) {
        INFO(prefix << suffix);
        const double error = relative_error(gradient, golden.tensor(prefix + suffix));
        CHECK(error < 1e-4);
        worst = std::max(worst, error);
        ++tensors;
      }
    }
    decoder->set_adapters_enabled(false);
    CHECK(decoder->loss(golden.batch, golden.labels, false).sum == loss);
  }
  CHECK(models >= 17);
  CHECK(tensors >= 540);
  std::printf("%zu gradients of %zu families: largest relative error %.1e\n", tensors, models, worst);
}

TEST_CASE("training takes z-loss and label smoothing along, held-out losses do not", "[decoder]") {
  for (const char* name : {"smollm2", "gemma2"}) {  // without and with a soft cap
    INFO(name);
    const Golden golden(name);
    const auto decoder = golden.load();
    const auto adapters = golden.attach(*decoder);
    const double plain = decoder->loss(golden.batch, golden.labels, false).sum;
    decoder->set_loss_terms({.z_loss = 1e-3, .label_smoothing = 0.1});
    const auto training = [&] {
      zero_gradients(adapters);
      return decoder->train_step(golden.batch, golden.labels, 1, Recompute::none, 0).sum;
    };
    const at::Tensor kept = golden.labels.ne(-100).nonzero().squeeze(1);
    const at::Tensor z = decoder->logits(golden.batch).to(at::kDouble).index_select(0, kept), logp = at::log_softmax(z, -1);
    const double spread = -logp.mean(-1).sum().item<double>(), squares = at::logsumexp(z, {-1}).square().sum().item<double>();
    CHECK(training() == Approx(0.9 * plain + 0.1 * spread + 1e-3 * squares).epsilon(1e-5));
    CHECK(decoder->loss(golden.batch, golden.labels, false).sum == plain);

    // Along its own direction the gradient's length is the slope. The sums carry some 1e-5 of rounding, their difference is 1e-2.
    const at::Tensor gradient = adapters.front()->grad_b.clone(), b = adapters.front()->b.clone();
    const double length = gradient.norm().item<double>(), h = 5e-3 / length;
    adapters.front()->b.copy_(b + h / length * gradient);
    const double up = training();
    adapters.front()->b.copy_(b - h / length * gradient);
    CHECK((up - training()) / (2 * h) == Approx(length).epsilon(5e-3));
  }
}

// Real models are held to 1e-3. A random network averages nothing out, and transformers' own bf16 run of this one is about there
// (measured with version 5.23, eager attention): ours may be half as much worse than theirs.
const std::map<std::string, std::pair<double, double>> kTransformersDivergence = {{"smollm2", {9.7e-4, 2.0e-3}}};

TEST_CASE("bf16 stays close to f32: divergence per token", "[decoder][golden]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    const Golden golden(name);
    const auto decoder = golden.load(at::kBFloat16, at::kBFloat16);
    const Divergence base = divergence(decoder->logits(golden.batch), golden.tensor("logits"));
    const auto adapters = golden.attach(*decoder);
    const Divergence adapted = divergence(decoder->logits(golden.batch), golden.tensor("adapter_logits"));
    std::printf("%-14s KL base %.1e (largest %.1e), adapted %.1e (largest %.1e)\n", name.c_str(), base.mean, base.largest,
                adapted.mean, adapted.largest);
    const auto theirs = kTransformersDivergence.find(name);
    const bool hard = theirs != kTransformersDivergence.end();
    CHECK(base.mean < (hard ? std::max(1e-3, 1.5 * theirs->second.first) : 1e-3));
    CHECK(adapted.mean < (hard ? std::max(1e-3, 1.5 * theirs->second.second) : 1e-3));
  }
}

}  // namespace graft::model
