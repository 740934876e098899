#include "train/report/history.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/file.h"
#include "core/json.h"

namespace graft::train {
namespace {

double number_in(const Json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

void add_evaluation(History& history, const Json& record, double step) {
  const std::string set = json_get<std::string>(record, "set", "metrics");
  auto found = std::find_if(history.evaluations.begin(), history.evaluations.end(), [&](auto& e) { return e.set == set; });
  if (found == history.evaluations.end()) found = history.evaluations.insert(found, {set, {}, {}});
  found->nats_per_token.emplace_back(step, number_in(record, "nll") / number_in(record, "tokens"));
  found->bits_per_byte.emplace_back(step, number_in(record, "bits_per_byte"));
}

void add_step(History& history, const Json& record, double step) {
  history.loss.emplace_back(step, number_in(record, "loss"));
  history.learning_rate.emplace_back(step, number_in(record, "learning_rate"));
  history.gradient_norm.emplace_back(step, number_in(record, "gradient_norm"));
  history.tokens_per_second.emplace_back(step, number_in(record, "tokens_per_second"));
  history.steps = static_cast<std::int64_t>(step);
  history.skipped += record.contains("skipped");
  if (const double tokens = number_in(record, "tokens"); std::isfinite(tokens))
    history.tokens = static_cast<std::int64_t>(tokens);
  if (const double seconds = number_in(record, "seconds"); std::isfinite(seconds)) history.seconds = seconds;
}

}  // namespace

History read_history(const std::filesystem::path& metrics_jsonl) {
  History history;
  if (!std::filesystem::exists(metrics_jsonl)) return history;
  const std::string text = read_file(metrics_jsonl);
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const Json record = parse_json(std::string_view(text).substr(begin, end - begin), metrics_jsonl.string());
    const double step = number_in(record, "step");
    if (record.contains("set"))
      add_evaluation(history, record, step);
    else if (record.contains("loss"))
      add_step(history, record, step);
  }
  return history;
}

}  // namespace graft::train
