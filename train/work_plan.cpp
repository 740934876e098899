#include "train/work_plan.h"

#include <algorithm>
#include <cmath>

#include "train/memory_plan.h"

namespace graft::train {

std::int64_t steps_of(const TrainConfig& config, std::int64_t rows_per_epoch) {
  if (config.steps > 0) return config.steps;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(config.epochs * static_cast<double>(rows_per_epoch) /
                                                                       static_cast<double>(config.rows))));
}

WorkPlan plan_work(const TrainConfig& config, std::int64_t tokens) {
  const double row = static_cast<double>(config.length);
  if (tokens == 0) return {0, config.steps, static_cast<double>(config.rows) * row};
  const std::int64_t rows = (tokens + config.length - 1) / config.length;
  return {rows, steps_of(config, rows), static_cast<double>(config.rows * tokens) / static_cast<double>(rows)};
}

TokenFlops flops_per_token(const TrainConfig& config, const model::ModelSpec& spec) {
  const auto head = static_cast<double>(spec.vocab * spec.hidden);
  double layers = static_cast<double>(spec.parameters()) - head * (spec.tied_head ? 1 : 2);
  if (spec.moe.experts > 0)
    layers -= 3.0 * static_cast<double>(spec.hidden * spec.moe.ffn * (spec.moe.experts - spec.moe.per_token)) *
              static_cast<double>(spec.layers.size());
  const double passes = recompute_of(config) == model::Recompute::layers ? 3 : 2;
  return {2 * layers * passes, 2 * head * 2};
}

}  // namespace graft::train
