// Generation: the cache changes nothing, sampling follows the distribution, and it stops where it should.
#include "eval/generate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/fake_decoder.h"
#include "tests/support/golden_model.h"
#include "tests/support/temp_dir.h"

namespace graft::eval {
namespace {

using namespace graft::testing;
using Ids = std::vector<std::int32_t>;

at::Tensor all_logits(model::Decoder& decoder, const Ids& ids) {
  const at::Tensor tokens = at::tensor(at::ArrayRef<std::int32_t>(ids), at::kInt).to(at::kLong);
  return decoder.logits(packed(tokens, {0, static_cast<std::int32_t>(ids.size())}));
}

// Greedy continuation by the whole forward for each token.
Ids greedy_without_cache(model::Decoder& decoder, Ids ids, std::int64_t count) {
  const std::size_t prompt = ids.size();
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(all_logits(decoder, ids)[-1].argmax().item<std::int64_t>()));
  return {ids.begin() + static_cast<std::ptrdiff_t>(prompt), ids.end()};
}

Ids run(model::Decoder& decoder, const Ids& prompt, const GenerateOptions& options) {
  return generate(decoder, prompt, options, {});
}

const Ids kPrompt = {5, 17, 44, 3, 71, 20, 9};

// How often each id came first in `count` samples, one seed each.
std::vector<double> counts(model::Decoder& decoder, GenerateOptions options, int count) {
  std::vector<double> seen(static_cast<std::size_t>(decoder.spec().vocab), 0);
  options.max_tokens = 1;
  for (int seed = 0; seed < count; ++seed) {
    options.seed = static_cast<std::uint64_t>(seed);
    ++seen[static_cast<std::size_t>(run(decoder, {4}, options).at(0))];
  }
  return seen;
}

// softmax(logits / temperature) over the ids of `kept`, 0 elsewhere.
std::vector<double> distribution(model::Decoder& decoder, double temperature, const Ids& kept) {
  const at::Tensor logits = all_logits(decoder, {4})[0].to(at::kDouble);
  std::vector<double> p(static_cast<std::size_t>(logits.size(0)), 0);
  double total = 0;
  for (const std::int32_t id : kept) total += p[static_cast<std::size_t>(id)] = std::exp(logits[id].item<double>() / temperature);
  for (double& value : p) value /= total;
  return p;
}

double chi_square(const std::vector<double>& seen, const std::vector<double>& p, double count) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    if (p[i] > 0) sum += (seen[i] - count * p[i]) * (seen[i] - count * p[i]) / (count * p[i]);
  return sum;
}

}  // namespace

TEST_CASE("the cache gives the logits of the whole forward, for every family", "[generate]") {
  for (const std::string& name : golden_models()) {
    const Golden golden(name);
    const auto decoder = golden.load();
    const auto adapters = golden.attach(*decoder);
    for (const bool adapted : {false, true}) {
      INFO(name << (adapted ? ", adapted" : ""));
      decoder->set_adapters_enabled(adapted);
      // In pieces of 7, 1, 1, ..., past the sliding windows (5) and longrope's original context (16).
      Ids ids = kPrompt;
      auto cache = decoder->make_cache(40);
      at::Tensor next = decoder->logits_next(ids, cache);
      for (int i = 0; i < 24; ++i) {
        const at::Tensor want = all_logits(*decoder, ids)[-1];
        const double error = ((next - want).abs().max() / want.abs().max()).item<double>();
        INFO(ids.size() << " tokens");
        CHECK(error < 1e-5);
        ids.push_back(static_cast<std::int32_t>((ids.back() * 31 + 7) % decoder->spec().vocab));
        next = decoder->logits_next(std::span(&ids.back(), 1), cache);
      }
      const Ids got = run(*decoder, kPrompt, {.max_tokens = 30});
      CHECK(got == greedy_without_cache(*decoder, kPrompt, 30));
    }
  }
}

TEST_CASE("the adapter changes what is generated, and off means off", "[generate]") {
  const Golden golden("llama");
  const auto decoder = golden.load();
  const Ids base = run(*decoder, kPrompt, {.max_tokens = 20});
  const auto adapters = golden.attach(*decoder);
  CHECK(run(*decoder, kPrompt, {.max_tokens = 20}) != base);
  decoder->set_adapters_enabled(false);
  CHECK(run(*decoder, kPrompt, {.max_tokens = 20}) == base);
}

TEST_CASE("samples follow the softmax, cut to top_k and top_p", "[generate]") {
  FakeDecoder decoder(8);
  constexpr int kCount = 6000;
  const at::Tensor logits = all_logits(decoder, {4})[0];
  Ids order = {0, 1, 2, 3, 4, 5, 6, 7};
  std::sort(order.begin(), order.end(),
            [&](std::int32_t a, std::int32_t b) { return logits[a].item<float>() > logits[b].item<float>(); });
  // 99.9 % points of chi-square for 1 to 7 degrees of freedom.
  const double limits[] = {0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32};
  const auto check = [&](const GenerateOptions& options, const Ids& kept) {
    const auto seen = counts(decoder, options, kCount), p = distribution(decoder, options.temperature, kept);
    for (std::size_t i = 0; i < p.size(); ++i)
      if (p[i] == 0) CHECK(seen[i] == 0);
    CHECK(chi_square(seen, p, kCount) <= limits[kept.size() - 1]);
  };
  for (const double temperature : {0.7, 1.0, 2.0}) {
    INFO("temperature " << temperature);
    check({.temperature = temperature}, order);
    check({.temperature = temperature, .top_k = 3}, Ids(order.begin(), order.begin() + 3));
    check({.temperature = temperature, .top_k = 100}, order);
    // The smallest set with at least this mass: three ids reach into the third's, one is enough for less than the first's.
    const auto p = distribution(decoder, temperature, order);
    const auto mass = [&](int i) { return p[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]; };
    check({.temperature = temperature, .top_p = mass(0) + mass(1) + 0.5 * mass(2)}, Ids(order.begin(), order.begin() + 3));
    check({.temperature = temperature, .top_p = mass(0) * 0.999}, {order[0]});
  }
  CHECK(run(decoder, {4}, {.max_tokens = 1}) == Ids{order[0]});
  // The other draw would also fail: the test can.
  CHECK(chi_square(counts(decoder, {.temperature = 2.0}, kCount), distribution(decoder, 1.0, order), kCount) > 24.32);
}

TEST_CASE("sampling is a function of the seed", "[generate]") {
  FakeDecoder decoder;
  const auto sample = [&](std::uint64_t seed) { return run(decoder, {4}, {.max_tokens = 40, .temperature = 1, .seed = seed}); };
  CHECK(sample(1) == sample(1));
  CHECK(sample(1) != sample(2));
  Ids heard;
  const Ids whole =
      generate(decoder, {4}, {.max_tokens = 40, .temperature = 1, .seed = 1}, [&](std::int32_t id) { heard.push_back(id); });
  CHECK(heard == whole);
  // A shorter run is the beginning of a longer one.
  CHECK(run(decoder, {4}, {.max_tokens = 9, .temperature = 1, .seed = 1}) == Ids(whole.begin(), whole.begin() + 9));
}

TEST_CASE("generation ends at a stop id, at the limit, at the context's end", "[generate]") {
  FakeDecoder decoder;  // context 64
  const Ids free = run(decoder, {4}, {.max_tokens = 20, .temperature = 1, .seed = 3});
  REQUIRE(free.size() == 20);
  const auto first = std::find(free.begin(), free.end(), free[7]);
  GenerateOptions options{.max_tokens = 20, .temperature = 1, .seed = 3, .stop_ids = {60, free[7]}};
  if (std::find(free.begin(), first, 60) != first) options.stop_ids = {free[7]};
  CHECK(run(decoder, {4}, options) == Ids(free.begin(), first));  // the stop id is not in the answer
  CHECK(run(decoder, {4}, {.max_tokens = 0}).empty());
  CHECK(run(decoder, Ids(60, 4), {.max_tokens = 20}).size() == 4);
  CHECK(run(decoder, Ids(63, 4), {.max_tokens = 20}).size() == 1);
}

TEST_CASE("what cannot be continued is refused with the values", "[generate]") {
  FakeDecoder decoder;
  const auto refusal = [&](const Ids& prompt, const GenerateOptions& options) {
    return message_of<UserError>([&] { run(decoder, prompt, options); });
  };
  CHECK(refusal({}, {}) == "the prompt has no tokens; give at least one");
  CHECK(refusal({3, 61}, {}) == "the prompt holds id 61, the model has ids 0 to 60");
  CHECK(refusal({-1}, {}) == "the prompt holds id -1, the model has ids 0 to 60");
  CHECK(refusal(Ids(64, 4), {}) == "the prompt has 64 tokens, the model's context ends at 64; shorten the prompt");
  const std::string sampling = "sampling needs temperature >= 0, 0 < top_p <= 1, top_k >= 0, max_tokens >= 0; got ";
  CHECK(refusal({4}, {.temperature = -1}) == sampling + "-1, 1, 0, 128");
  CHECK(refusal({4}, {.temperature = std::nan("")}) == sampling + "nan, 1, 0, 128");
  CHECK(refusal({4}, {.top_p = 0}) == sampling + "0, 0, 0, 128");
  CHECK(refusal({4}, {.top_k = -2}) == sampling + "0, 1, -2, 128");

  const auto damaged = Golden("llama").load();
  for (model::Linear* linear : damaged->linears()) linear->weight.fill_(std::nan(""));
  CHECK(message_of<UserError>([&] { run(*damaged, {4}, {}); }) ==
        "the model's logits for new token 0 are not finite; its weights or adapter are damaged");
}

}  // namespace graft::eval
