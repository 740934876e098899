// The learning rate as a pure function of the step, so that there is no scheduler state to save.
//
//   W = round(warmup * steps) (at most steps - 1);  p = (s - W) / (steps - W) for s >= W
//   s < W:     peak * (s + 1) / (W + 1)                        rises from the first step on, which is never wasted at 0
//   cosine:    peak * (min_lr + (1 - min_lr) * (1 + cos(pi p)) / 2)
//   linear:    peak * (min_lr + (1 - min_lr) * (1 - p))
//   constant:  peak
// After warmup these are transformers' get_{cosine,linear,constant}_schedule_with_warmup for min_lr = 0.
#pragma once

#include <cstdint>

#include "train/config.h"

namespace graft::train {

// step: 0 is the first; steps: of the whole run, at least 1.
double learning_rate(const TrainConfig& config, std::int64_t step, std::int64_t steps);

}  // namespace graft::train
