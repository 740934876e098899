// Documents packed into one run neither see nor change one another; recomputation and dropout change nothing they should not.
#include <cmath>
#include <limits>

#include "tests/support/catch.h"
#include "tests/support/golden_model.h"
#include "tests/support/tensors.h"

namespace graft::model {
namespace {

using namespace graft::testing;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Packed document(const Packed& batch, std::size_t i) {
  const std::int64_t n = batch.starts[i + 1] - batch.starts[i];
  return packed(batch.tokens.narrow(0, batch.starts[i], n), {0, static_cast<std::int32_t>(n)});
}

// Labels of document i alone.
at::Tensor only(const at::Tensor& labels, const Packed& batch, std::size_t i) {
  at::Tensor kept = at::full_like(labels, -100);
  kept.slice(0, batch.starts[i], batch.starts[i + 1]).copy_(labels.slice(0, batch.starts[i], batch.starts[i + 1]));
  return kept;
}

// Every document but i has other tokens.
Packed others_changed(const Packed& batch, std::size_t i, std::int64_t vocab) {
  Packed changed = batch;
  changed.tokens = (batch.tokens * 7 + 11).remainder(vocab);
  changed.tokens.slice(0, batch.starts[i], batch.starts[i + 1])
      .copy_(batch.tokens.slice(0, batch.starts[i], batch.starts[i + 1]));
  return changed;
}

at::Tensor gradients(const LowRanks& adapters) {
  std::vector<at::Tensor> all;
  for (const auto& low_rank : adapters) {
    all.push_back(low_rank->grad_a.flatten());
    all.push_back(low_rank->grad_b.flatten());
  }
  return at::cat(all);
}

struct Step {
  double sum;
  at::Tensor gradients;
};
Step step(Decoder& decoder, const LowRanks& adapters, const Packed& batch, const at::Tensor& labels,
          Recompute recompute = Recompute::none, std::uint64_t seed = 0) {
  zero_gradients(adapters);
  const double sum = decoder.train_step(batch, labels, 1.0 / 30, recompute, seed).sum;
  return {sum, gradients(adapters)};
}

// A base whose embedding of one token is NaN.
class PoisonedSource final : public WeightSource {
 public:
  PoisonedSource(std::unique_ptr<WeightSource> base, std::int64_t token) : base_(std::move(base)), token_(token) {}
  const ModelSpec& spec() const override { return base_->spec(); }
  const std::vector<WeightInfo>& weights() const override { return base_->weights(); }
  bool has(const std::string& name) const override { return base_->has(name); }
  at::Tensor load(const std::string& name, at::ScalarType type) const override {
    at::Tensor values = base_->load(name, type);
    if (name == "model.embed_tokens.weight") values[token_].fill_(kNaN);
    return values;
  }
  const std::filesystem::path& path() const override { return base_->path(); }
  bool is_gguf() const override { return base_->is_gguf(); }
  const Json& hf_config() const override { return base_->hf_config(); }
  const std::string& identity() const override { return base_->identity(); }

 private:
  std::unique_ptr<WeightSource> base_;
  std::int64_t token_;
};

}  // namespace

TEST_CASE("a document's loss and gradients are the same packed and alone", "[packing]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    const Golden golden(name);
    const auto decoder = golden.load();
    const auto adapters = golden.attach(*decoder);
    at::Tensor sum_of_gradients;
    for (std::size_t i = 0; i + 1 < golden.batch.starts.size(); ++i) {
      INFO("document " << i);
      const at::Tensor labels = only(golden.labels, golden.batch, i);
      const Packed alone = document(golden.batch, i);
      const at::Tensor own = labels.slice(0, golden.batch.starts[i], golden.batch.starts[i + 1]).contiguous();
      if (own.eq(-100).all().item<bool>()) continue;
      const Step in_pack = step(*decoder, adapters, golden.batch, labels), single = step(*decoder, adapters, alone, own);
      CHECK(in_pack.sum == Approx(single.sum).epsilon(1e-5));
      CHECK(decoder->loss(golden.batch, labels, false).sum == Approx(decoder->loss(alone, own, false).sum).epsilon(1e-5));
      CHECK(relative_error(in_pack.gradients, single.gradients) < 1e-5);
      sum_of_gradients = sum_of_gradients.defined() ? sum_of_gradients + single.gradients : single.gradients;
    }
    CHECK(relative_error(step(*decoder, adapters, golden.batch, golden.labels).gradients, sum_of_gradients) < 1e-5);
  }
}

// The loss of a document has no derivative with respect to another one: nothing of it moves when all tokens of the others do.
// Shapes stay, so every product has the same blocks and bits can be compared; only experts regroup their rows.
TEST_CASE("no bit of a document's loss or gradients depends on the other documents", "[packing]") {
  for (const std::string& name : golden_models()) {
    const Golden golden(name);
    const auto decoder = golden.load();
    const auto adapters = golden.attach(*decoder);
    const bool experts = decoder->spec().moe.experts > 0;
    for (const std::size_t i : {0, 2}) {  // document 1 is a single token
      INFO(name << ", document " << i);
      const at::Tensor labels = only(golden.labels, golden.batch, i);
      const Packed changed = others_changed(golden.batch, i, decoder->spec().vocab);
      REQUIRE_FALSE(at::equal(changed.tokens, golden.batch.tokens));
      const Step before = step(*decoder, adapters, golden.batch, labels), after = step(*decoder, adapters, changed, labels);
      CHECK(before.gradients.abs().max().item<double>() > 0);
      if (experts) {
        CHECK(after.sum == Approx(before.sum).epsilon(1e-6));
        CHECK(relative_error(after.gradients, before.gradients) < 1e-5);
      } else {
        CHECK(after.sum == before.sum);
        CHECK(same_bits(after.gradients, before.gradients));
      }
    }
  }
}

TEST_CASE("a NaN in one document reaches no other", "[packing]") {
  for (const std::string& name : golden_models()) {
    const Golden golden(name);
    if (open_weights(golden.directory)->spec().tied_head) continue;  // there the embedding is a part of every logit
    INFO(name);
    const auto decoder = golden.load();
    const std::int64_t last = golden.batch.starts.size() - 2, begin = golden.batch.starts[static_cast<std::size_t>(last)];
    // A token that only the last document holds.
    const at::Tensor early = golden.batch.tokens.slice(0, 0, begin), late = golden.batch.tokens.slice(0, begin);
    std::int64_t token = -1;
    for (std::int64_t at = 0; at < late.size(0) / 2 && token < 0; ++at)
      if (!early.eq(late[at]).any().item<bool>()) token = late[at].item<std::int64_t>();
    REQUIRE(token >= 0);
    const auto poisoned = Decoder::load(PoisonedSource(open_weights(golden.directory), token), at::kFloat, at::kFloat);
    const at::Tensor clean = decoder->logits(golden.batch), got = poisoned->logits(golden.batch);
    CHECK(got.slice(0, begin).isnan().any().item<bool>());
    CHECK(got.slice(0, 0, begin).isfinite().all().item<bool>());
    CHECK(relative_error(got.slice(0, 0, begin), clean.slice(0, 0, begin)) < (decoder->spec().moe.experts > 0 ? 1e-5 : 1e-30));

    // In training the step is one sum: its loss says that it is not finite, so that nothing is learnt from it.
    const auto adapters = golden.attach(*poisoned);
    CHECK_FALSE(std::isfinite(step(*poisoned, adapters, golden.batch, golden.labels).sum));
  }
}

TEST_CASE("recomputed layers give the same bits, with dropout too", "[recompute]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    const Golden golden(name);
    const auto decoder = golden.load();
    const auto adapters = golden.attach(*decoder);
    for (const double dropout : {0.0, 0.3}) {
      for (const auto& low_rank : adapters) low_rank->dropout = dropout;
      const Step kept = step(*decoder, adapters, golden.batch, golden.labels, Recompute::none, 5);
      const Step again = step(*decoder, adapters, golden.batch, golden.labels, Recompute::none, 5);
      const Step recomputed = step(*decoder, adapters, golden.batch, golden.labels, Recompute::layers, 5);
      const Step other = step(*decoder, adapters, golden.batch, golden.labels, Recompute::none, 6);
      CHECK((again.sum == kept.sum && same_bits(again.gradients, kept.gradients)));
      CHECK((recomputed.sum == kept.sum && same_bits(recomputed.gradients, kept.gradients)));
      CHECK((other.sum == kept.sum) == (dropout == 0));
      CHECK(same_bits(other.gradients, kept.gradients) == (dropout == 0));
    }
    // Evaluation knows no dropout.
    CHECK(decoder->loss(golden.batch, golden.labels, false).sum ==
          Approx(golden.tensor("adapter_loss_sum").item<double>()).epsilon(1e-5));
  }
}

// PEFT's goldens have no adapters on experts (its own are of another form). Here every linear has one, experts and router's
// inputs included, and the gradient is held against the loss itself: the derivative along the gradient g of a tensor is |g|.
TEST_CASE("gradients of every linear's adapter, experts too, agree with finite differences", "[decoder]") {
  for (const std::string name : {"mixtral", "qwen3_moe", "llama"}) {
    const Golden golden(name);
    const auto decoder = golden.load();
    LowRanks adapters;
    std::uint64_t seed = 0;
    for (Linear* linear : decoder->linears()) {
      auto& low_rank = adapters.emplace_back(std::make_unique<kernels::LowRank>());
      low_rank->a = random({4, linear->weight.size(1)}, ++seed, at::kFloat, 0.15);
      low_rank->b = random({linear->weight.size(0), 4}, ++seed, at::kFloat, 0.15);
      low_rank->grad_a = at::zeros_like(low_rank->a);
      low_rank->grad_b = at::zeros_like(low_rank->b);
      low_rank->scale = 2;
      linear->adapter = low_rank.get();
    }
    decoder->train_step(golden.batch, golden.labels, 1, Recompute::none, 0);
    const auto loss_at = [&](at::Tensor& values, const at::Tensor& direction, double distance) {
      const at::Tensor kept = values.clone();
      values.add_(direction, distance);
      const double sum = decoder->loss(golden.batch, golden.labels, false).sum;
      values.copy_(kept);
      return sum;
    };
    std::size_t checked = 0;
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      INFO(name << " " << decoder->linears()[i]->name);
      for (auto [values, gradient] :
           {std::pair{&adapters[i]->a, &adapters[i]->grad_a}, {&adapters[i]->b, &adapters[i]->grad_b}}) {
        const double size = gradient->norm().item<double>();
        if (size == 0) continue;  // an expert that no token chose
        const at::Tensor direction = *gradient / size;
        // The sums are exact to some 5e-5, so the quotient is to 1e-2. Where a step changes the choice of experts the loss is
        // not smooth and the two quotients differ: nothing can be said there.
        constexpr double h = 4e-3;
        const double slope = (loss_at(*values, direction, h) - loss_at(*values, direction, -h)) / (2 * h);
        const double wider = (loss_at(*values, direction, 2 * h) - loss_at(*values, direction, -2 * h)) / (4 * h);
        if (std::abs(slope - wider) > 0.01 * size + 0.02) continue;
        CHECK(slope == Approx(size).epsilon(0.01).margin(0.02));
        ++checked;
      }
    }
    INFO(name << ": " << checked << " of " << 2 * adapters.size());
    CHECK(checked * 4 >= 2 * adapters.size() * 3);
  }
}

}  // namespace graft::model
