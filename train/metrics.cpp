#include "train/metrics.h"

#include <chrono>

#include "core/json.h"
#include "train/events.h"

namespace graft::train {
namespace {

double wall_time() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string line(const Json& json) { return json.dump() + "\n"; }

}  // namespace

// One event file per run directory under a fixed name: TensorBoard reads every file whose name contains "tfevents".
Metrics::Metrics(const fs::path& run_dir, const LogPositions& at)
    : loss_(run_dir / "loss.jsonl", at.loss),
      metrics_(run_dir / "metrics.jsonl", at.metrics),
      events_(graft::create_directories(run_dir / "tensorboard") / "events.out.tfevents.graft", at.events) {
  if (events_.position() == 0) events_.append(version_record(wall_time()));
}

void Metrics::step(const StepRecord& r) {
  Json json = {{"step", r.step},
               {"loss", r.loss},
               {"learning_rate", r.learning_rate},
               {"gradient_norm", r.gradient_norm},
               {"tokens", r.tokens}};
  if (r.merge_aware) json["merge_aware"] = true;
  if (!r.skipped.empty()) json["skipped"] = r.skipped;
  loss_.append(line(json));

  const double time = wall_time();
  json["tokens_per_second"] = r.tokens_per_second;
  json["seconds"] = r.seconds;
  json["time"] = time;
  metrics_.append(line(json));
  events_.append(scalars_record(time, r.step,
                                {{"train/loss", static_cast<float>(r.loss)},
                                 {"train/learning_rate", static_cast<float>(r.learning_rate)},
                                 {"train/gradient_norm", static_cast<float>(r.gradient_norm)},
                                 {"train/tokens_per_second", static_cast<float>(r.tokens_per_second)}}));
}

void Metrics::evaluation(std::int64_t step, const eval::HeldoutScore& score, bool merge_aware) {
  Json json = {{"step", step},
               {"set", score.set},
               {"nll", score.nll},
               {"tokens", score.tokens},
               {"bytes", score.bytes},
               {"bits_per_byte", score.bits_per_byte()},
               {"perplexity", score.perplexity()}};
  if (merge_aware) json["merge_aware"] = true;
  loss_.append(line(json));
  const double time = wall_time();
  json["time"] = time;
  metrics_.append(line(json));
  events_.append(scalars_record(time, step,
                                {{score.set + "/bits_per_byte", static_cast<float>(score.bits_per_byte())},
                                 {score.set + "/perplexity", static_cast<float>(score.perplexity())}}));
}

LogPositions Metrics::sync() {
  loss_.sync();
  metrics_.sync();
  events_.sync();
  return {loss_.position(), metrics_.position(), events_.position()};
}

}  // namespace graft::train
