#include "model/rope_table.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace graft::model {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

double llama3(double frequency, const RopeSpec& spec) {
  const auto context = static_cast<double>(spec.original_context);
  const double turns = context * frequency / kTwoPi;  // within the original context
  if (turns < spec.low_freq_factor) return frequency / spec.factor;
  if (turns > spec.high_freq_factor) return frequency;
  const double smooth = (turns - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
  return (1 - smooth) * frequency / spec.factor + smooth * frequency;
}

// The dimension index that turns `rotations` times within the original context.
double yarn_dimension(double rotations, const RopeSpec& spec) {
  const auto context = static_cast<double>(spec.original_context);
  return static_cast<double>(spec.dims) * std::log(context / (rotations * kTwoPi)) / (2 * std::log(spec.theta));
}

double yarn(double frequency, std::int64_t i, const RopeSpec& spec) {
  const double low = std::max(std::floor(yarn_dimension(spec.beta_fast, spec)), 0.0);
  double high = std::min(std::ceil(yarn_dimension(spec.beta_slow, spec)), static_cast<double>(spec.dims - 1));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return frequency / spec.factor * ramp + frequency * (1 - ramp);
}

double divided(double frequency, std::int64_t i, const std::vector<double>& factors, std::int64_t half) {
  if (static_cast<std::int64_t>(factors.size()) != half) {
    throw FormatError(cat("rope: ", factors.size(), " frequency factors but ", half, " rotated pairs"));
  }
  return frequency / factors[static_cast<std::size_t>(i)];
}

}  // namespace

std::vector<double> rope_frequencies(const RopeSpec& spec, bool beyond_original_context) {
  const std::int64_t half = spec.dims / 2;
  const auto& factors = beyond_original_context ? spec.long_factors : spec.short_factors;
  std::vector<double> frequencies(static_cast<std::size_t>(half));
  for (std::int64_t i = 0; i < half; ++i) {
    double f = std::pow(spec.theta, -2.0 * static_cast<double>(i) / static_cast<double>(spec.dims));
    switch (spec.scaling) {
      case RopeScaling::none:
        break;
      case RopeScaling::linear:
        f /= spec.factor;
        break;
      case RopeScaling::llama3:
        f = llama3(f, spec);
        break;
      case RopeScaling::yarn:
        f = yarn(f, i, spec);
        break;
      case RopeScaling::longrope:
        f = divided(f, i, factors, half);
        break;
    }
    frequencies[static_cast<std::size_t>(i)] = f;
  }
  return frequencies;
}

RopeRows rope_rows(const RopeSpec& spec, const at::Tensor& positions, std::span<const std::int32_t> starts) {
  const at::Tensor places = positions.to(at::kFloat);
  // Angles are rounded to f32 as every implementation of these models does: a more exact product would be another model.
  const auto angles_of = [&](const at::Tensor& part, bool beyond) {
    return at::outer(part, at::tensor(rope_frequencies(spec, beyond), at::kDouble).to(at::kFloat));
  };
  at::Tensor angles = angles_of(places, false);
  if (spec.scaling == RopeScaling::longrope) {
    const auto limit = static_cast<float>(spec.original_context);
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      const at::Tensor part = places.slice(0, starts[i], starts[i + 1]);
      if (part.numel() == 0 || part[-1].item<float>() < limit) continue;
      angles.slice(0, starts[i], starts[i + 1]).copy_(angles_of(part, true));
    }
  }
  RopeRows rows{angles.cos(), angles.sin()};
  if (spec.attention_factor != 1) {
    rows.cos.mul_(spec.attention_factor);
    rows.sin.mul_(spec.attention_factor);
  }
  return rows;
}

}  // namespace graft::model
