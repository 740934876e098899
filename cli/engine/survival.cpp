#include "cli/engine/survival.h"

#include <cmath>

#include "cli/engine/output.h"
#include "cli/engine/servers.h"
#include "core/error.h"
#include "core/log.h"
#include "export/ladders.h"

namespace graft::cli {
namespace {

bool same_servers(const std::string& a, const std::string& b) { return a.starts_with("gguf") == b.starts_with("gguf"); }

// The next larger one that this base can be written in, the user's servers read and that is not known to be poor too; the last of
// a ladder always can.
std::string larger(const Session& session, const std::string& format, const std::vector<Score>& scores, double least) {
  for (const std::string& candidate : exports::larger_formats(format)) {
    const auto share = survival(scores, candidate);
    const bool written = exports::find_exporter(candidate).refusal(session.base->spec(), session.config.lora).empty();
    if (written && replaces(session, candidate, format) && !(share && *share < least)) return candidate;
  }
  return format.starts_with("gguf") ? "gguf-bf16" : "hf";
}

std::string alternative(const Session& session, const std::string& poor, const std::vector<exports::Artifact>& kept,
                        const std::vector<Score>& scores, double least) {
  const exports::Artifact* best = nullptr;
  for (const exports::Artifact& other : kept) {
    const exports::Exporter& exporter = exports::find_exporter(other.format);
    if (!exporter.merges || !same_servers(other.format, poor) || !replaces(session, other.format, poor)) continue;
    if (const auto share = survival(scores, other.format); !share || *share < least) continue;
    if (best == nullptr || other.bytes < best->bytes) best = &other;
  }
  if (best != nullptr) return cat(best->format, " keeps ", percent(survival(scores, best->format)));
  return cat("try ", larger(session, poor, scores, least));
}

double bits_of(const std::vector<Score>& scores, const std::string& model) {
  double sum = 0;
  for (const Score& score : scores)
    if (score.model == model) sum += score.bits_per_byte * static_cast<double>(score.bytes);
  return sum;
}

// Nats of each document of all sets.
std::vector<double> document_nll(const std::vector<Score>& scores, const std::string& model) {
  std::vector<double> all;
  for (const Score& score : scores)
    if (score.model == model) all.insert(all.end(), score.document_nll.begin(), score.document_nll.end());
  return all;
}

std::vector<double> difference(std::vector<double> from, const std::vector<double>& to) {
  for (std::size_t i = 0; i < from.size(); ++i) from[i] -= to[i];
  return from;
}

// "86.2..91.0"
std::string span_of(const eval::Interval& interval) {
  return cat(fixed(100 * interval.low, 1), "..", fixed(100 * interval.high, 1));
}

// What `from` spends more than `to`, of what the base spends more than the adapted model.
std::optional<double> share_of_gain(const std::vector<Score>& scores, const std::string& from, const std::string& to) {
  const double base = bits_of(scores, "base"), adapted = bits_of(scores, "adapted");
  const double high = bits_of(scores, from), low = bits_of(scores, to);
  if (adapted == 0 || high == 0 || low == 0 || !(adapted < base)) return std::nullopt;
  return (high - low) / (base - adapted);
}

// "base 0.8736, adapted 0.8801 bits per byte"
std::string held_out(const std::vector<Score>& scores) {
  return cat("base ", fixed(*bits_per_byte(scores, "base"), 4), ", adapted ", fixed(*bits_per_byte(scores, "adapted"), 4),
             " bits per byte");
}

}  // namespace

std::optional<double> survival(const std::vector<Score>& scores, const std::string& model) {
  return share_of_gain(scores, "base", model);
}

std::optional<eval::Interval> survival_interval(const std::vector<Score>& scores, const std::string& model) {
  const std::vector<double> base = document_nll(scores, "base"), adapted = document_nll(scores, "adapted"),
                            file = document_nll(scores, model);
  if (base.empty() || adapted.size() != base.size() || file.size() != base.size()) return std::nullopt;
  return eval::ratio_interval(difference(base, file), difference(base, adapted));
}

Json interval_json(const eval::Interval& interval) {
  const auto end = [](double value) { return std::isfinite(value) ? Json(value) : Json(); };
  return Json::array({end(interval.low), end(interval.high)});
}

std::optional<eval::Interval> gain_interval(const std::vector<Score>& scores) {
  const std::vector<double> base = document_nll(scores, "base"), adapted = document_nll(scores, "adapted");
  if (base.empty() || adapted.size() != base.size()) return std::nullopt;
  return eval::ratio_interval(difference(base, adapted), base);
}

std::optional<double> update_kept(const std::vector<Score>& scores, const std::string& format) {
  return share_of_gain(scores, base_in(format), format);
}

std::optional<double> divergence(const std::vector<Score>& scores, const std::string& model) {
  double sum = 0;
  std::int64_t tokens = 0;
  for (const Score& score : scores) {
    if (score.model != model || !score.kl) continue;
    sum += *score.kl * static_cast<double>(score.kl_tokens);
    tokens += score.kl_tokens;
  }
  return tokens == 0 ? std::nullopt : std::optional(sum / static_cast<double>(tokens));
}

Json survival_json(const std::vector<Score>& scores, const std::string& format) {
  Json json = Json::object();
  if (const auto share = survival(scores, format)) json["survival"] = *share;
  if (const auto interval = survival_interval(scores, format)) json["survival_interval"] = interval_json(*interval);
  if (const auto share = update_kept(scores, format)) json["update_kept"] = *share;
  if (const auto nats = divergence(scores, format)) json["kl"] = *nats;
  return json;
}

std::string kept(const std::vector<Score>& scores, const std::string& model) {
  if (model == "base" || model == "adapted") return "";
  const auto share = survival(scores, model);
  const auto interval = survival_interval(scores, model);
  const bool bounded =
      share && std::isfinite(*share) && interval && std::isfinite(interval->low) && std::isfinite(interval->high);
  return cat(percent(share), bounded ? cat(" (", span_of(*interval), ")") : "");
}

std::string percent(const std::optional<double>& share) { return share ? cat(fixed(100 * *share, 1), " %") : ""; }

std::optional<double> bits_per_byte(const std::vector<Score>& scores, const std::string& model) {
  double bytes = 0;
  for (const Score& score : scores)
    if (score.model == model) bytes += static_cast<double>(score.bytes);
  return bytes == 0 ? std::nullopt : std::optional(bits_of(scores, model) / bytes);
}

std::string gained_nothing(const Session& session, const std::vector<Score>& scores) {
  if (scores.empty() || session.config.export_.min_survival <= 0 || survival(scores, "adapted")) return "";
  return cat(
      "the adapter gained nothing on the held-out documents (", held_out(scores),
      "): do not serve it; lower train.learning_rate or look at the loss in the report. export.min_survival: 0 says that this "
      "is no fault");
}

bool keeps_enough(const Session& session, const std::string& format, const std::vector<Score>& scores) {
  const double least = session.config.export_.min_survival;
  if (least <= 0 || scores.empty() || !exports::find_exporter(format).quantizes) return true;
  const auto share = survival(scores, format);
  return share && *share >= least;
}

std::string doubt(const Session& session, const std::string& format, const std::vector<Score>& scores) {
  const double least = session.config.export_.min_survival;
  const auto interval = survival_interval(scores, format);
  if (least <= 0 || !exports::find_exporter(format).quantizes || !interval || interval->low >= least) return "";
  return cat(format, " keeps ", kept(scores, format), " of what the adapter gained; ", document_nll(scores, "base").size(),
             " held-out documents do not tell that from less than export.min_survival, ", percent(least),
             " (95 %): more would, by corpus.heldout or eval.max_tokens");
}

std::string refusal(const Session& session, const std::string& format, const std::vector<exports::Artifact>& kept,
                    const std::vector<Score>& scores) {
  const double least = session.config.export_.min_survival;
  std::string text =
      cat(format, " keeps ", cli::kept(scores, format), " of what the adapter gained, export.min_survival asks for ",
          percent(least), "; it was not kept: ", alternative(session, format, kept, scores, least));
  if (const auto update = update_kept(scores, format); update && *update >= least)
    text += cat("; of the update itself ", percent(update), " is there: it is the base that this format costs so much");
  return text;
}

}  // namespace graft::cli
