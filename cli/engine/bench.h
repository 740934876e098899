// What `graft bench` times, and the floor it is held against.
#pragma once

#include <functional>
#include <vector>

#include "cli/engine.h"
#include "cli/engine/session.h"
#include "data/batch_source.h"
#include "model/decoder.h"

namespace graft::cli {

struct Cost {
  double wall = 0, cpu = 0;  // seconds; cpu: of all threads
};
Cost cost_of(const std::function<void()>& work);  // on a device until it is done
Cost median(std::vector<Cost> costs);             // by wall time

// The matrix products that no implementation of a step can leave out, each bare (at::mm_out, at::bmm_out into memory that exists)
// at its own shape, in the decoder's compute type (with a train.base_precision too, so that shares can be compared):
//   frozen     X W^T of every linear and of the head; dY W where something below is trained
//   low rank   X A^T, S B^T, dY B, dY^T S, dS^T X, dS A of every adapter (the last where dX is formed)
//   attention  Q K^T, P V; again Q K^T, and dO V^T, P^T dO, dS K, dS^T Q, per segment. Of the full product the part that is seen:
//              half where attention is causal, less in a window.
// Of a mixture's experts each has its even share of the rows: tokens * per_token / experts.
// The frozen ones read the decoder's own weights, or as many others, so caches are as cold as in the step.
class StepFloor {
 public:
  StepFloor(model::Decoder& decoder, const std::vector<data::Batch>& micro);
  Cost frozen() const;
  Cost low_rank() const;
  Cost attention() const;

 private:
  struct Shape {  // of one linear
    at::Tensor weight;
    std::int64_t rank;
    bool need_dx, expert;
  };
  std::int64_t rows(const Shape& linear, std::int64_t tokens) const;
  at::Tensor buffer(std::int64_t rows, std::int64_t columns) const;

  const model::ModelSpec& spec_;
  const std::vector<data::Batch>& micro_;
  std::vector<Shape> linears_;
  at::Tensor head_;
  at::ScalarType type_;
};

// Exclusive time of each LibTorch operator that `work` calls on this thread, longest first; what is in none of them is "own
// loops".
struct OperatorTime {
  std::string name;  // products with a side of at most 64 are marked ", low rank"
  double seconds = 0;
  std::int64_t calls = 0;
};
std::vector<OperatorTime> operator_times(const std::function<void()>& work);

int bench_step(const Session& session, const Context& context, const BenchOptions& options);
int bench_ops(const Session& session, const Context& context, const BenchOptions& options);

}  // namespace graft::cli
