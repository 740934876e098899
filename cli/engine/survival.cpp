#include "cli/engine/survival.h"

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

std::string alternative(const Session& session, const exports::Artifact& poor, const std::vector<exports::Artifact>& artifacts,
                        const std::vector<Score>& scores, double least) {
  const exports::Artifact* best = nullptr;
  for (const exports::Artifact& other : artifacts) {
    const exports::Exporter& exporter = exports::find_exporter(other.format);
    if (!exporter.merges || !same_servers(other.format, poor.format)) continue;
    if (const auto share = survival(scores, other.format); !share || *share < least) continue;
    if (best == nullptr || other.bytes < best->bytes) best = &other;
  }
  if (best != nullptr) return cat(best->format, " keeps ", percent(survival(scores, best->format)));
  return cat("try ", larger(session, poor.format, scores, least));
}

double bits_of(const std::vector<Score>& scores, const std::string& model) {
  double sum = 0;
  for (const Score& score : scores)
    if (score.model == model) sum += score.bits_per_byte * static_cast<double>(score.bytes);
  return sum;
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
  double bytes = 0;
  for (const Score& score : scores)
    if (score.model == "base") bytes += static_cast<double>(score.bytes);
  return cat("base ", fixed(bits_of(scores, "base") / bytes, 4), ", adapted ", fixed(bits_of(scores, "adapted") / bytes, 4),
             " bits per byte");
}

}  // namespace

std::optional<double> survival(const std::vector<Score>& scores, const std::string& model) {
  return share_of_gain(scores, "base", model);
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
  if (const auto share = update_kept(scores, format)) json["update_kept"] = *share;
  if (const auto nats = divergence(scores, format)) json["kl"] = *nats;
  return json;
}

std::string kept(const std::vector<Score>& scores, const std::string& model) {
  return model == "base" || model == "adapted" ? "" : percent(survival(scores, model));
}

std::string percent(const std::optional<double>& share) { return share ? cat(fixed(100 * *share, 1), " %") : ""; }

std::string gained_nothing(const Session& session, const std::vector<Score>& scores) {
  if (scores.empty() || session.config.export_.min_survival <= 0 || survival(scores, "adapted")) return "";
  return cat(
      "the adapter gained nothing on the held-out documents (", held_out(scores),
      "): do not serve it; lower train.learning_rate or look at the loss in the report. export.min_survival: 0 says that this "
      "is no fault");
}

std::string withdraw_poor(const Session& session, std::vector<exports::Artifact>& artifacts, const std::vector<Score>& scores) {
  const double least = session.config.export_.min_survival;
  std::string problems;
  std::vector<exports::Artifact> kept;
  for (const exports::Artifact& artifact : artifacts) {
    const auto share = survival(scores, artifact.format);
    const bool asked = exports::find_exporter(artifact.format).quantizes && least > 0;
    if (asked && scores.empty())
      log::warn("export", artifact.format, ": nothing was held out, so that export.min_survival cannot be checked");
    if (!asked || scores.empty() || (share && *share >= least)) {
      kept.push_back(artifact);
      continue;
    }
    exports::withdraw(artifact, session.export_dir());
    problems += cat(problems.empty() ? "" : "\n", artifact.format);
    if (!share) {
      problems += cat(" was not kept: the adapter gained nothing on the held-out documents (", held_out(scores),
                      "), and export.min_survival asks for ", percent(least), " of it; 0 keeps any file");
      continue;
    }
    problems += cat(" keeps ", percent(share), " of what the adapter gained, export.min_survival asks for ", percent(least),
                    "; it was not kept: ", alternative(session, artifact, artifacts, scores, least));
    if (const auto update = update_kept(scores, artifact.format); update && *update >= least)
      problems += cat("; of the update itself ", percent(update), " is there: it is the base that this format costs so much");
  }
  artifacts = std::move(kept);
  return problems;
}

}  // namespace graft::cli
