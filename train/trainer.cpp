#include "train/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/stop.h"
#include "kernels/adamw/adamw.h"
#include "kernels/copy_rows/copy_rows.h"
#include "kernels/device.h"
#include "train/memory_plan.h"
#include "train/schedule.h"
#include "train/work_plan.h"

namespace graft::train {
namespace {

at::Tensor as_long(const std::vector<std::int32_t>& values) {
  // The tensor only lives until .to() has copied; from_blob wants a mutable pointer.
  auto* data = const_cast<std::int32_t*>(values.data());
  return at::from_blob(data, {static_cast<std::int64_t>(values.size())}, at::kInt).to(at::kLong);
}

std::uint64_t expected_tokens(const TrainConfig& config, const data::BatchSource& batches, std::int64_t steps) {
  const double per_row = static_cast<double>(batches.tokens_per_epoch()) / static_cast<double>(batches.rows_per_epoch());
  return static_cast<std::uint64_t>(per_row * static_cast<double>(config.rows) * static_cast<double>(steps));
}

}  // namespace

double micro_step(model::Decoder& decoder, const data::Batch& batch, double scale, model::Recompute recompute,
                  std::uint64_t dropout_seed) {
  const model::Packed packed{as_long(batch.tokens), as_long(batch.positions), batch.starts};
  return decoder.train_step(packed, as_long(batch.labels), scale, recompute, dropout_seed).sum;
}

std::int64_t total_steps(const TrainConfig& config, const data::BatchSource& batches) {
  const std::int64_t rows = batches.rows_per_epoch();
  if (rows < 1)
    throw DataError(
        "the corpus packs into no row to train on; all its documents were dropped (see train.long_documents) or empty");
  return steps_of(config, rows);
}

std::string too_few_rows(const TrainConfig& config, const data::BatchSource& batches) {
  constexpr std::int64_t kFew = 10;
  const std::int64_t rows = batches.rows_per_epoch(), steps = total_steps(config, batches);
  std::string text;
  if (rows < config.rows)
    text = cat("the corpus packs into ", rows, " rows, and one step takes ", config.rows, " (train.rows): it repeats some");
  if (config.steps == 0 && steps < kFew)
    text +=
        cat(text.empty() ? "" : "; ", steps, steps == 1 ? " step" : " steps", " only; lower train.rows or raise train.epochs");
  return text;
}

Trainer::Trainer(const TrainConfig& config, model::Decoder& decoder, const data::BatchSource& batches, Parameters& parameters,
                 TrainState& state, Metrics& metrics, Checkpoints& checkpoints, Evaluate evaluate, MergeAware* merge_aware)
    : config_(config),
      decoder_(decoder),
      batches_(batches),
      parameters_(parameters),
      state_(state),
      metrics_(metrics),
      checkpoints_(checkpoints),
      evaluate_(std::move(evaluate)),
      merge_aware_(merge_aware),
      steps_(total_steps(config, batches)),
      saved_(state.step),
      progress_("train", expected_tokens(config, batches, steps_), "tokens") {
  decoder_.set_loss_terms({.z_loss = config.z_loss, .label_smoothing = config.label_smoothing});
}

std::vector<eval::HeldoutScore> Trainer::run() {
  try {
    loop();
  } catch (const Interrupted&) {
    kernels::wait_for_device();  // which may still be at the layers before the stop
    save();
    log::info("train", "stopped after step ", state_.step, " of ", steps_, "; the same command goes on from there");
    throw;
  }
  progress_.finish();
  return std::move(scores_);
}

void Trainer::loop() {
  for (;;) {
    if (evaluation_due()) {
      if (checkpoint_due()) save();  // an evaluation may take long, and end with the power
      evaluate();
    }
    if (checkpoint_due()) save();
    if (state_.step == steps_) return;
    step();
    check_patience();
  }
}

// One optimizer step. State changes only after the last place that can throw.
void Trainer::step() {
  const auto start = std::chrono::steady_clock::now();
  data::Cursor cursor = state_.cursor;
  std::vector<data::Batch> micro;
  std::int64_t tokens = 0, trained = 0;
  for (std::int64_t left = config_.rows; left > 0; left -= micro.back().rows) {
    micro.push_back(batches_.read(cursor, std::min(config_.micro_rows, left)));
    tokens += static_cast<std::int64_t>(micro.back().tokens.size());
    trained += micro.back().trained_tokens();
  }

  const model::Recompute recompute = recompute_of(config_);
  const Random dropout(static_cast<std::uint64_t>(config_.seed), Stream::dropout, static_cast<std::uint64_t>(state_.step));
  const double scale = trained > 0 ? 1.0 / static_cast<double>(trained) : 0;
  double sum = 0;
  if (merge_aware_ != nullptr) merge_aware_->follow(state_.step);
  kernels::zero(parameters_.adapters.gradients);
  for (std::size_t i = 0; i < micro.size(); ++i) {
    throw_if_stopped();
    if (micro[i].trained_tokens() == 0) continue;
    sum += micro_step(decoder_, micro[i], scale, recompute, dropout.bits(i));
  }
  throw_if_stopped();

  StepRecord record;
  record.merge_aware = on_rounded_weights();
  record.loss = sum * scale;
  record.learning_rate = learning_rate(config_, state_.step, steps_);
  record.gradient_norm = kernels::global_norm(parameters_.adapters.gradients);
  bool bad = false;
  if (trained == 0) {
    record.skipped = "no token with loss";
  } else if (!std::isfinite(record.loss)) {
    record.skipped = "the loss is not finite";
    bad = true;
  } else if (!std::isfinite(record.gradient_norm)) {
    record.skipped = "the gradient is not finite";
    bad = true;
  } else {
    kernels::adamw_step(parameters_.adapters.parameters, parameters_.adapters.gradients, parameters_.m, parameters_.v,
                        state_.updates + 1,
                        {.lr = record.learning_rate,
                         .beta1 = config_.beta1,
                         .beta2 = config_.beta2,
                         .eps = config_.epsilon,
                         .weight_decay = config_.weight_decay,
                         .max_norm = config_.clip});
    if (state_.updates == 0) state_.first_loss = record.loss;
    state_.last_loss = record.loss;
    ++state_.updates;
  }
  if (trained > 0) state_.bad_in_a_row = bad ? state_.bad_in_a_row + 1 : 0;
  ++state_.step;
  state_.cursor = cursor;
  state_.tokens += tokens;
  state_.trained_tokens += trained;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  state_.seconds += seconds;

  record.step = state_.step;
  record.tokens = state_.tokens;
  record.tokens_per_second = static_cast<double>(tokens) / seconds;
  record.seconds = state_.seconds;
  metrics_.step(record);
  if (bad) log::warn("train", "step ", state_.step, " was skipped: ", record.skipped, "; parameters are unchanged");
  char note[96];
  std::snprintf(note, sizeof note, "step %lld/%lld%s  loss %.4f  lr %.2e", static_cast<long long>(state_.step),
                static_cast<long long>(steps_), record.merge_aware ? " merge-aware" : "", record.loss, record.learning_rate);
  progress_.update(static_cast<std::uint64_t>(state_.tokens), note);
}

bool Trainer::evaluation_due() const {
  const bool at_end = state_.step == steps_, regular = config_.eval_every > 0 && state_.step % config_.eval_every == 0;
  return evaluate_ && (at_end || regular) && state_.evaluated != state_.step;
}

void Trainer::evaluate() {
  if (merge_aware_ != nullptr) merge_aware_->follow(state_.step);
  scores_ = evaluate_();
  for (const auto& score : scores_) {
    metrics_.evaluation(state_.step, score, on_rounded_weights());
    log::info("train", "step ", state_.step, ": ", score.set, " ", score.bits_per_byte(), " bits per byte, perplexity ",
              score.perplexity(), on_rounded_weights() ? ", on rounded weights" : "");
  }
  state_.evaluated = state_.step;
  saved_ = -1;  // a checkpoint of this step that knew nothing of the evaluation is replaced
}

bool Trainer::checkpoint_due() const {
  if (saved_ == state_.step || state_.step == 0) return false;
  const std::chrono::duration<double, std::ratio<60>> since = std::chrono::steady_clock::now() - saved_at_;
  return state_.step % config_.checkpoint_every == 0 || state_.step == steps_ ||
         (config_.checkpoint_minutes > 0 && since.count() >= config_.checkpoint_minutes);
}

void Trainer::save() {
  state_.logs = metrics_.sync();
  checkpoints_.save(state_, parameters_);
  saved_ = state_.step;
  saved_at_ = std::chrono::steady_clock::now();
  checkpoints_.prune(config_.keep_checkpoints);
}

void Trainer::check_patience() const {
  if (state_.bad_in_a_row < config_.max_bad_steps) return;
  const auto last = checkpoints_.newest();
  throw DataError(
      cat("the loss or gradient was not finite in ", state_.bad_in_a_row, " steps in a row (train.max_bad_steps), the ",
          "last at step ", state_.step,
          "; look at the data, or begin anew (--fresh, or another run_dir) with a lower train.learning_rate. The last "
          "good checkpoint is ",
          last ? last->string() : std::string("none: this run had not reached one")));
}

}  // namespace graft::train
