#include "cli/engine/survival.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "cli/engine/output.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

using Ladder = std::vector<std::string_view>;

// Of files for the same servers, from small to large; what is in none of them goes on in the one for directories.
const std::vector<Ladder>& ladders() {
  static const std::vector<Ladder> all = {
      {"gguf-q4_0", "gguf-q4_0-imatrix", "gguf-q4_k_s", "gguf-q4_k_s-imatrix", "gguf-q4_k_m", "gguf-q4_k_m-imatrix", "gguf-q4_1",
       "gguf-q4_1-imatrix", "gguf-q5_0", "gguf-q5_0-imatrix", "gguf-q5_k_m", "gguf-q5_k_m-imatrix", "gguf-q5_1",
       "gguf-q5_1-imatrix", "gguf-q6_k", "gguf-q6_k-imatrix", "gguf-q8_0", "gguf-bf16"},
      {"gptq-g128", "gptq-g128-gptq", "gptq-g64", "gptq-g64-gptq", "gptq-g32", "gptq-g32-gptq", "ct-w8a16-g128", "hf"},
      {"awq-g128", "awq-g128-awq", "awq-g64", "awq-g64-awq", "awq-g32", "awq-g32-awq", "ct-w8a16-g128", "hf"},
      {"modelopt-fp8-static", "fp8", "modelopt-fp8", "fp8-block", "ct-fp8-block", "ct-fp8", "ct-fp8-gptq", "hf"},
      {"ct-w4a16-g128",
       "ct-w4a16-g128-gptq",
       "ct-w4a16-g64",
       "ct-w4a16-g64-gptq",
       "ct-w4a16-g32",
       "ct-w4a16-g32-gptq",
       "ct-w4a16-asym-g128",
       "ct-w4a16-asym-g128-awq",
       "ct-w4a16-asym-g128-awq-gptq",
       "ct-w4a16-asym-g64",
       "ct-w4a16-asym-g64-awq",
       "ct-w4a16-asym-g64-awq-gptq",
       "ct-w4a16-asym-g32",
       "ct-w4a16-asym-g32-awq",
       "ct-w4a16-asym-g32-awq-gptq",
       "ct-w4w8a16-asym-g32-awq-gptq",
       "ct-w8a8",
       "ct-w8a8-smooth",
       "ct-fp8-static",
       "ct-fp8",
       "ct-fp8-gptq",
       "ct-w8a16-g128",
       "ct-w8a16-g64",
       "ct-w8a16-g32",
       "hf"}};
  return all;
}

bool same_servers(const std::string& a, const std::string& b) { return a.starts_with("gguf") == b.starts_with("gguf"); }

// The next larger one that this base can be written in and that is not known to be poor too; the last of a ladder always can.
std::string larger(const Session& session, const std::string& format, const std::vector<Score>& scores, double least) {
  for (const Ladder& ladder : ladders()) {
    const auto at = std::find(ladder.begin(), ladder.end(), format);
    if (at == ladder.end()) continue;
    for (auto next = at + 1; next < ladder.end(); ++next) {
      const std::string candidate(*next);
      const auto share = survival(scores, candidate);
      const bool written = exports::find_exporter(candidate).refusal(session.base->spec(), session.config.lora).empty();
      if (written && !(share && *share < least)) return candidate;
    }
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
