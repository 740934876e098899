// The divergence of predictions against softmax over full logits in f64, and the sample that a scoring pass keeps against logits
// of every window alone.
#include "eval/divergence.h"

#include <cmath>

#include "core/error.h"
#include "eval/heldout.h"
#include "tests/support/catch.h"
#include "tests/support/documents.h"
#include "tests/support/golden_model.h"
#include "tests/support/tensors.h"

namespace graft::eval {
namespace {

using namespace graft::testing;

at::Tensor log_probabilities(const at::Tensor& logits) { return at::log_softmax(logits.to(at::kDouble), -1); }

// Per token, from natural log probabilities.
at::Tensor divergences(const at::Tensor& p, const at::Tensor& q) { return p.exp().mul(p - q).sum(-1); }

at::Tensor logits64(const Predictions& of) {
  const at::Tensor x = of.hidden.to(at::kDouble);
  at::Tensor z = x.mm(of.head.to(at::kDouble).t());
  if (of.adapter != nullptr)
    z = z + x.mm(of.adapter->a.to(at::kDouble).t()).mm(of.adapter->b.to(at::kDouble).t()) * of.adapter->scale;
  return of.softcap > 0 ? (z / of.softcap).tanh() * of.softcap : z;
}

// What f32 products may move the result by: a logit by at most the terms' absolute sum times their number times 2^-24, the
// divergence by that times the slopes |q - p| and |p (ln p / q - KL)|, whose sums are at most 2 and twice the largest |ln p / q|.
double tolerance(const Predictions& p, const Predictions& q) {
  double moved = 0;
  for (const Predictions* of : {&p, &q}) {
    const at::Tensor x = of->hidden.to(at::kDouble).abs();
    double terms = x.mm(of->head.to(at::kDouble).abs().t()).max().item<double>();
    if (of->adapter != nullptr)
      terms += x.mm(of->adapter->a.to(at::kDouble).abs().t()).mm(of->adapter->b.to(at::kDouble).abs().t()).max().item<double>() *
               of->adapter->scale;
    moved = std::max(moved, terms * static_cast<double>(x.size(1) + 16) * 0x1p-24);
  }
  return moved * (2 + 2 * (log_probabilities(logits64(p)) - log_probabilities(logits64(q))).abs().max().item<double>());
}

Predictions made_up(std::uint64_t seed, at::ScalarType type, double deviation = 0.2) {
  return {testing::random({37, 24}, seed, type), testing::random({5003, 24}, seed + 1, type, deviation)};
}

// Rows of logits of every predicted token, each window of each document alone.
at::Tensor window_logits(model::Decoder& decoder, const Documents& corpus, std::int64_t length) {
  std::vector<at::Tensor> rows;
  for (const Documents::Text& text : corpus.texts()) {
    const auto size = static_cast<std::int64_t>(text.tokens.size());
    for (std::int64_t begin = 0; begin + 1 < size; begin += length) {
      const std::int64_t inputs = std::min(length, size - 1 - begin);
      at::Tensor tokens = at::empty({inputs}, at::kLong);
      for (std::int64_t i = 0; i < inputs; ++i) tokens[i] = text.tokens[static_cast<std::size_t>(begin + i)];
      const at::Tensor logits = decoder.logits(packed(tokens, {0, static_cast<std::int32_t>(inputs)}));
      for (std::int64_t i = 0; i < inputs; ++i)
        if (text.loss.empty() || text.loss[static_cast<std::size_t>(begin + i + 1)]) rows.push_back(logits[i]);
    }
  }
  return at::stack(rows);
}

Predictions sample_of(model::Decoder& decoder, const Documents& corpus, std::int64_t length, std::int64_t max_tokens = 0) {
  static const auto tokenizer = data::load_tokenizer(std::filesystem::path(GRAFT_SOURCE_DIR) / "tests/golden/tokenizers/smollm");
  Predictions sample;
  heldout(decoder, corpus, *tokenizer, "heldout", length, max_tokens, &sample);
  return sample;
}

}  // namespace

TEST_CASE("the divergence is that of full logits in f64", "[divergence]") {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const double softcap : {0.0, 3.0}) {
      Predictions p = made_up(1, type), q = {p.hidden, 0.5 * p.head + 0.6 * made_up(5, type).head};
      p.softcap = q.softcap = softcap;
      kernels::LowRank low_rank;
      low_rank.a = testing::random({4, 24}, 9), low_rank.b = testing::random({5003, 4}, 10), low_rank.scale = 0.5;
      for (kernels::LowRank* adapter : {static_cast<kernels::LowRank*>(nullptr), &low_rank}) {
        q.adapter = adapter;
        INFO(type << ", cap " << softcap << ", adapter " << (adapter != nullptr));
        const double want = divergences(log_probabilities(logits64(p)), log_probabilities(logits64(q))).mean().item<double>();
        CHECK(want > 100 * tolerance(p, q));
        CHECK(std::abs(divergence(p, q) - want) < tolerance(p, q));
        CHECK(std::abs(divergence(q, p) - want) > tolerance(p, q));  // it is not symmetric
      }
      CHECK(divergence(p, p) == 0);
    }
}

TEST_CASE("the divergence of large logits, of none and of NaN", "[divergence]") {
  const Predictions p = made_up(1, at::kFloat, 300), q = made_up(1, at::kFloat, 301);  // up to some 5,000
  const double want = divergences(log_probabilities(logits64(p)), log_probabilities(logits64(q))).mean().item<double>();
  CHECK(std::abs(divergence(p, q) - want) < tolerance(p, q));

  // An entry that neither gives any probability to counts as nothing; one that only q does not makes it infinite.
  Predictions a = made_up(1, at::kFloat), b = made_up(3, at::kFloat);
  a.hidden = a.hidden.abs(), b.hidden = b.hidden.abs();
  const auto without = [](const Predictions& of) { return Predictions{of.hidden, of.head.narrow(0, 1, 5002)}; };
  const double rest = divergence(without(a), without(b));
  b.head[0].fill_(-std::numeric_limits<float>::infinity());
  CHECK(std::isinf(divergence(a, b)));
  a.head[0].fill_(-std::numeric_limits<float>::infinity());
  CHECK(divergence(a, b) == Approx(rest).epsilon(1e-6));

  for (const std::int64_t entry : {0, 2047, 2048, 5002}) {
    Predictions poisoned = made_up(3, at::kFloat);
    poisoned.head[entry][7] = std::numeric_limits<float>::quiet_NaN();
    INFO("entry " << entry);
    CHECK(std::isnan(divergence(a, poisoned)));
    CHECK(std::isnan(divergence(poisoned, a)));
  }
  CHECK_THROWS_AS(divergence(p, without(q)), std::logic_error);
}

TEST_CASE("a scoring pass keeps what every family predicts", "[divergence][heldout]") {
  std::vector<std::uint8_t> answers(20, 0);
  std::fill(answers.begin() + 15, answers.end(), std::uint8_t{1});
  const Documents documents({{testing::made_up(13, 1), {}, 40},
                             {testing::made_up(37, 3), {}, 160},
                             {testing::made_up(20, 4), answers, 70},
                             {testing::made_up(6, 5), std::vector<std::uint8_t>(6, 0), 9}});
  for (const std::string& name : golden_models()) {
    INFO(name);
    const Golden golden(name);
    const auto decoder = golden.load();
    const Predictions base = sample_of(*decoder, documents, 16);
    const at::Tensor base_logits = window_logits(*decoder, documents, 16);
    REQUIRE(base.hidden.size(0) == 12 + 36 + 5);
    CHECK(relative_error(logits64(base), base_logits) < 1e-5);
    const auto adapters = golden.attach(*decoder);
    const Predictions adapted = sample_of(*decoder, documents, 16);
    const double want = divergences(log_probabilities(base_logits), log_probabilities(window_logits(*decoder, documents, 16)))
                            .mean()
                            .item<double>();
    CHECK(want > 1e-3);
    CHECK(divergence(base, adapted) == Approx(want).epsilon(1e-3));
  }
}

TEST_CASE("the sample is spread over all tokens and bounded", "[divergence][heldout]") {
  const auto decoder = Golden("llama").load();
  const Documents many({{testing::made_up(3000, 1), {}, 9000}, {testing::made_up(3300, 2), {}, 9900}});
  const Predictions sample = sample_of(*decoder, many, 64);
  const at::Tensor all = window_logits(*decoder, many, 64);  // 6298 predictions, and 6300 tokens: every third
  CHECK(sample.hidden.size(0) == (all.size(0) + 2) / 3);
  CHECK(relative_error(logits64(sample), all.slice(0, 0, all.size(0), 3)) < 1e-5);

  const Documents one({{testing::made_up(5000, 1), {}, 15000}});
  CHECK(sample_of(*decoder, one, 64, 10).hidden.size(0) == 4096);  // max_tokens ends at the document's end
}

}  // namespace graft::eval
