// TrainReport as JSON and back.
#include "core/error.h"
#include "train/train.h"

namespace graft::train {

double TrainReport::tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

Json TrainReport::json() const {
  Json scores = Json::array();
  for (const auto& score : heldout) scores.push_back(score.json());
  return {{"adapter", adapter.string()},
          {"already_done", already_done},
          {"corpus_changed", corpus_changed},
          {"resumed_from", resumed_from},
          {"steps", steps},
          {"skipped", skipped},
          {"tokens", tokens},
          {"trained_tokens", trained_tokens},
          {"adapter_parameters", adapter_parameters},
          {"first_loss", first_loss},
          {"last_loss", last_loss},
          {"seconds", seconds},
          {"tokens_per_second", tokens_per_second()},
          {"planned_memory", planned_memory},
          {"peak_memory", peak_memory},
          {"threads", threads},
          {"storage_dtype", storage_dtype},
          {"compute_dtype", compute_dtype},
          {"dropped_tokens", dropped_tokens},
          {"merge_aware", merge_aware},
          {"merge_aware_from", merge_aware_from},
          {"heldout", scores}};
}

TrainReport report_from_json(const Json& json, const std::string& origin) {
  TrainReport r;
  const auto get = [&](const char* name, auto& value) {
    value = json_get<std::remove_reference_t<decltype(value)>>(json, name, origin);
  };
  get("resumed_from", r.resumed_from);
  get("steps", r.steps);
  get("skipped", r.skipped);
  get("tokens", r.tokens);
  get("trained_tokens", r.trained_tokens);
  get("adapter_parameters", r.adapter_parameters);
  get("first_loss", r.first_loss);
  get("last_loss", r.last_loss);
  get("seconds", r.seconds);
  get("planned_memory", r.planned_memory);
  get("peak_memory", r.peak_memory);
  get("threads", r.threads);
  get("storage_dtype", r.storage_dtype);
  get("compute_dtype", r.compute_dtype);
  get("dropped_tokens", r.dropped_tokens);
  if (json.contains("merge_aware")) {  // reports of earlier versions have none
    get("merge_aware", r.merge_aware);
    get("merge_aware_from", r.merge_aware_from);
  }
  for (const Json& item : json_get<std::vector<Json>>(json, "heldout", origin)) {
    eval::HeldoutScore& score = r.heldout.emplace_back();
    score.set = json_get<std::string>(item, "set", origin);
    score.nll = json_get<double>(item, "nll", origin);
    score.tokens = json_get<std::int64_t>(item, "tokens", origin);
    score.documents = json_get<std::int64_t>(item, "documents", origin);
    score.bytes = json_get<std::int64_t>(item, "bytes", origin);
  }
  return r;
}

}  // namespace graft::train
