#include "cli/engine/publish.h"

#include <utility>

#include "cli/engine/artifact_scores.h"
#include "cli/engine/servers.h"
#include "cli/engine/stages.h"
#include "cli/engine/survival.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

Json heldout_json(const Session& session, const std::string& format, const std::vector<Score>& scores) {
  const double least = session.config.export_.min_survival;
  Json json = {{"gate", least <= 0 ? "off" : scores.empty() ? "unknown" : "passed"}, {"min_survival", least}};
  for (const auto& [name, model] :
       {std::pair<const char*, std::string>{"base", "base"}, {"adapted", "adapted"}, {"file", format}})
    if (const auto bits = bits_per_byte(scores, model)) json["bits_per_byte"][name] = *bits;
  if (const auto share = survival(scores, format)) json["survival"] = *share;
  if (const auto interval = survival_interval(scores, format)) json["survival_interval"] = interval_json(*interval);
  return json;
}

}  // namespace

Published publish(const Session& session, ScoreBook& book, lora::AdapterSet& adapter, LazyDecoder& decoder,
                  const std::vector<std::string>& formats, Scored which, std::vector<Score>& scores) {
  Published result;
  result.refused = gained_nothing(session, scores);
  if (!result.refused.empty() || formats.empty()) return result;
  ArtifactScorer scorer(session, book, adapter, decoder, formats);
  std::vector<std::string> refused;
  const auto gate = [&](exports::Artifact& artifact) {
    const std::string& format = artifact.format;
    if (!scores.empty() && (which == Scored::all || quantizes(format)))
      for (Score& score : scorer.score(artifact)) scores.push_back(std::move(score));
    if (scores.empty() && quantizes(format) && session.config.export_.min_survival > 0)
      log::warn("export", format, ": nothing was held out, so that export.min_survival cannot be checked");
    artifact.heldout = heldout_json(session, format, scores);
    const bool passes = keeps_enough(session, format, scores);
    if (!passes) refused.push_back(format);
    if (const std::string text = passes ? doubt(session, format, scores) : ""; !text.empty()) log::warn("export", text);
    return passes;
  };
  result.artifacts = export_adapter(session, adapter, formats, gate);
  for (const std::string& format : refused) {
    result.refused += cat(result.refused.empty() ? "" : "\n", refusal(session, format, result.artifacts, scores));
    const fs::path older = session.export_dir() / exports::artifact_of(format);
    if (fs::exists(older)) result.refused += cat("; ", older.string(), " is still the older one");
  }
  if (refused.empty() || !result.artifacts.empty()) result.serving = write_serving(session, adapter);  // else all is as it was
  if (refused.empty())
    sign_export(session);
  else if (!session.config.export_.signing_key.empty())
    result.refused +=
        "\nthe export is not signed; the next one writes what it is asked for anew, so ask for all that is to be served";
  return result;
}

}  // namespace graft::cli
