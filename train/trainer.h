// The training loop. Everything it needs is opened by train/train.cpp and handed in, so that tests can hand in their own.
//
//   while not done:  evaluate if due;  checkpoint if due;  one optimizer step
// Steps and evaluations of the merge-aware phase run on rounded weights (train/merge_aware.h).
//
// A step reads its rows first and counts the tokens that carry loss, so that the loss is normalised per token over the whole
// global batch whatever the micro-batches:   loss = sum over all / trained tokens of the step. With train.label_smoothing or
// z_loss it is the loss that is minimised; held-out scores are always negative log likelihoods. A step whose loss or gradient
// norm is not finite changes nothing but the counters; max_bad_steps of them in a row end the run. A signal is noticed between
// layers: the step or evaluation under way is given up, a checkpoint of the last complete step is written, and Interrupted goes
// on to the caller.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "data/batch_source.h"
#include "eval/heldout.h"
#include "model/decoder.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/merge_aware.h"
#include "train/metrics.h"

namespace graft::train {

// steps_of() the packed corpus (train/work_plan.h). DataError when there is no row to train on.
std::int64_t total_steps(const TrainConfig& config, const data::BatchSource& batches);

// What is odd about a corpus that small, with what to change; empty: nothing is.
std::string too_few_rows(const TrainConfig& config, const data::BatchSource& batches);

// The loss of one micro-batch, summed; its gradients, multiplied by `scale` (1 / trained tokens of the step), are added to the
// adapters'.
double micro_step(model::Decoder& decoder, const data::Batch& batch, double scale, model::Recompute recompute,
                  std::uint64_t dropout_seed);

class Trainer {
 public:
  using Evaluate = std::function<std::vector<eval::HeldoutScore>()>;  // of the adapters as they are; empty: no held-out sets

  // adapters must be attached to the decoder. state: where to begin. merge_aware may be null.
  Trainer(const TrainConfig& config, model::Decoder& decoder, const data::BatchSource& batches, Parameters& parameters,
          TrainState& state, Metrics& metrics, Checkpoints& checkpoints, Evaluate evaluate, MergeAware* merge_aware = nullptr);

  // Returns when all steps are done, evaluated and in a checkpoint. The scores of the last evaluation, empty if it was done
  // before a resume.
  std::vector<eval::HeldoutScore> run();

 private:
  void loop();
  void step();
  void evaluate();
  void save();
  bool on_rounded_weights() const { return merge_aware_ != nullptr && merge_aware_->begun(state_.step); }
  bool evaluation_due() const;
  bool checkpoint_due() const;
  void check_patience() const;

  const TrainConfig& config_;
  model::Decoder& decoder_;
  const data::BatchSource& batches_;
  Parameters& parameters_;
  TrainState& state_;
  Metrics& metrics_;
  Checkpoints& checkpoints_;
  Evaluate evaluate_;
  MergeAware* merge_aware_;
  const std::int64_t steps_;
  std::int64_t saved_;  // the step whose checkpoint says all that state_ says, -1: none
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  std::vector<eval::HeldoutScore> scores_;
  Progress progress_;
};

}  // namespace graft::train
