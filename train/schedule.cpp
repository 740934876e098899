#include "train/schedule.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

namespace graft::train {

double learning_rate(const TrainConfig& config, std::int64_t step, std::int64_t steps) {
  assert(step >= 0 && step < steps);
  const double peak = config.learning_rate;
  const auto warmup = std::min<std::int64_t>(std::llround(config.warmup * static_cast<double>(steps)), steps - 1);
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  if (config.schedule == "constant") return peak;
  const double p = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
  const double left = config.schedule == "linear" ? 1 - p : (1 + std::cos(std::numbers::pi * p)) / 2;
  return peak * (config.min_lr + (1 - config.min_lr) * left);
}

}  // namespace graft::train
