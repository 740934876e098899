// How much a run will compute, from sizes alone, before anything is opened but headers.
#pragma once

#include <cstdint>

#include "model/spec.h"
#include "train/config.h"

namespace graft::train {

struct WorkPlan {
  std::int64_t rows_per_epoch = 0;  // 0: unknown
  std::int64_t steps = 0;           // 0: unknown
  double tokens_per_step = 0;
};

// tokens: of all documents to train on, 0 when unknown. Rows are taken to be full; packing by best fit fills 98 % and more of
// them. What train.long_documents drops is not known before packing.
WorkPlan plan_work(const TrainConfig& config, std::int64_t tokens);

// ceil(rows of all epochs / rows of a step), 1 at least, unless config.steps says otherwise.
std::int64_t steps_of(const TrainConfig& config, std::int64_t rows_per_epoch);

// Floating point operations of a step's frozen products for each of its tokens: two products with each weight that it meets
// (forward, and the gradient of the input; a frozen weight has none), three when the forward is repeated (train.recompute). Of a
// mixture's experts those that a token goes to.
struct TokenFlops {
  double layers = 0, head = 0;
};
TokenFlops flops_per_token(const TrainConfig& config, const model::ModelSpec& spec);

// A step over its linears with their adapters: attention, norms, gate, loss. With AMX it is more (README, limits).
inline constexpr double kBesideProducts = 1.5;

}  // namespace graft::train
