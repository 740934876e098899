#include "eval/generate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"
#include "core/stop.h"

namespace graft::eval {
namespace {

void check(const std::vector<std::int32_t>& prompt, const GenerateOptions& options, const model::ModelSpec& spec) {
  if (prompt.empty()) throw DataError("the prompt has no tokens; give at least one");
  for (const std::int32_t id : prompt)
    if (id < 0 || id >= spec.vocab) throw DataError(cat("the prompt holds id ", id, ", the model has ids 0 to ", spec.vocab - 1));
  const auto used = static_cast<std::int64_t>(prompt.size());
  if (spec.context > 0 && used >= spec.context)
    throw DataError(cat("the prompt has ", used, " tokens, the model's context ends at ", spec.context, "; shorten the prompt"));
  if (!(options.temperature >= 0) || !(options.top_p > 0 && options.top_p <= 1) || options.top_k < 0 || options.max_tokens < 0)
    throw ConfigError(cat("sampling needs temperature >= 0, 0 < top_p <= 1, top_k >= 0, max_tokens >= 0; got ",
                          options.temperature, ", ", options.top_p, ", ", options.top_k, ", ", options.max_tokens));
}

// softmax(logits / temperature), cut to the top_k largest and then to the smallest set with mass top_p; inverse CDF at u.
// Equal logits are ordered by id, so that the choice is a pure function of its arguments.
std::int32_t sample(const float* logits, std::int64_t vocab, const GenerateOptions& options, double u) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  std::sort(ids.begin(), ids.end(),
            [&](std::int32_t a, std::int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  if (options.top_k > 0 && options.top_k < vocab) ids.resize(static_cast<std::size_t>(options.top_k));
  std::vector<double> mass(ids.size());  // cumulative, not normalised
  double total = 0;
  for (std::size_t i = 0; i < ids.size(); ++i)
    mass[i] = total += std::exp((static_cast<double>(logits[ids[i]]) - logits[ids[0]]) / options.temperature);
  const auto kept = std::lower_bound(mass.begin(), mass.end(), options.top_p * total);
  const double limit = kept == mass.end() ? total : *kept;
  const auto chosen = std::upper_bound(mass.begin(), mass.end(), u * limit);
  return ids[std::min(static_cast<std::size_t>(chosen - mass.begin()), ids.size() - 1)];
}

std::int32_t pick(const at::Tensor& logits, const GenerateOptions& options, const Random& random, std::int64_t index) {
  const at::Tensor values = logits.contiguous();
  const float* data = values.const_data_ptr<float>();
  const std::int64_t vocab = values.numel();
  if (!std::all_of(data, data + vocab, [](float v) { return std::isfinite(v); }))
    throw DataError(cat("the model's logits for new token ", index, " are not finite; its weights or adapter are damaged"));
  if (options.temperature == 0) return static_cast<std::int32_t>(std::max_element(data, data + vocab) - data);
  return sample(data, vocab, options, random.uniform(static_cast<std::uint64_t>(index)));
}

}  // namespace

std::vector<std::int32_t> generate(model::Decoder& decoder, const std::vector<std::int32_t>& prompt,
                                   const GenerateOptions& options, const std::function<void(std::int32_t)>& on_token) {
  const model::ModelSpec& spec = decoder.spec();
  check(prompt, options, spec);
  const auto used = static_cast<std::int64_t>(prompt.size());
  const std::int64_t limit = spec.context > 0 ? std::min(options.max_tokens, spec.context - used) : options.max_tokens;
  std::vector<std::int32_t> result;
  if (limit == 0) return result;

  const Random random(options.seed, Stream::sample);
  auto cache = decoder.make_cache(used + limit);
  at::Tensor logits = decoder.logits_next(prompt, cache);
  for (std::int64_t i = 0; i < limit; ++i) {
    throw_if_stopped();
    const std::int32_t id = pick(logits, options, random, i);
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end()) break;
    result.push_back(id);
    if (on_token) on_token(id);
    if (i + 1 < limit) logits = decoder.logits_next(std::span(&result.back(), 1), cache);
  }
  return result;
}

}  // namespace graft::eval
