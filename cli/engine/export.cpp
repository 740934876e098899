#include <algorithm>
#include <iostream>

#include "cli/engine/artifact_scores.h"
#include "cli/engine/output.h"
#include "cli/engine/servers.h"
#include "cli/engine/stages.h"
#include "cli/engine/survival.h"
#include "core/error.h"
#include "data/corpus.h"

namespace graft::cli {
namespace {

// Nothing is scored where nothing was rounded, or nothing held out.
std::vector<Score> score_quantized(const Session& session, lora::AdapterSet& adapter,
                                   const std::vector<exports::Artifact>& artifacts) {
  std::vector<exports::Artifact> quantized;
  for (const exports::Artifact& artifact : artifacts)
    if (exports::find_exporter(artifact.format).quantizes) quantized.push_back(artifact);
  if (quantized.empty()) return {};
  ScoreBook book(session);
  if (book.sets().empty()) return {};
  LazyDecoder decoder(*session.base, session.dtypes());
  std::vector<Score> scores = score_models(session, book, decoder, &adapter);
  decoder.release();
  for (Score& score : score_artifacts(session, book, adapter, quantized, decoder)) scores.push_back(std::move(score));
  return scores;
}

// A wrong working directory must not switch the check of survival off.
void check_corpus(const Session& session, const std::vector<std::string>& formats) {
  const std::string& corpus = session.config.corpus.dir;
  const bool asked = session.config.export_.min_survival > 0 && std::any_of(formats.begin(), formats.end(), [](const auto& name) {
                       return exports::find_exporter(name).quantizes;
                     });
  if (asked && data::read_manifest(corpus).empty())
    throw DataError(cat(corpus,
                        ": no corpus is here, so export.min_survival cannot be checked; name the run's with corpus.dir, or "
                        "keep any file with export.min_survival: 0"));
}

}  // namespace

int graft_export(const Context& context, const ExportOptions& options) {
  const Session session(context.config);
  const auto& formats = options.formats.empty() ? context.config.export_.formats : options.formats;
  if (formats.empty()) throw ConfigError("nothing to export: export.formats is empty; `graft help formats` lists what there is");
  check_signing_key(session);
  check_servers(session, formats);
  check_corpus(session, formats);
  const auto adapter = session.adapter(options.adapter);
  auto artifacts = export_adapter(session, *adapter, formats);
  const std::vector<Score> scores = score_quantized(session, *adapter, artifacts);
  const std::string withdrawn = withdraw_poor(session, artifacts, scores);
  sign_export(session);
  const fs::path serving = write_serving(session, *adapter);
  if (context.json) {
    Json list = Json::array();
    for (const auto& artifact : artifacts) {
      list.push_back(artifact.json());
      list.back().update(survival_json(scores, artifact.format));
    }
    print_json({{"directory", session.export_dir().string()}, {"artifacts", list}, {"withdrawn", withdrawn}});
  } else {
    if (!scores.empty()) std::cout << score_table(scores) << "\n";
    std::cout << text_of(artifacts) << serving_line(serving);
  }
  if (!withdrawn.empty()) throw GateError(withdrawn);
  return kDone;
}

}  // namespace graft::cli
