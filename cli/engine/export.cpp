#include <algorithm>
#include <iostream>

#include "cli/engine/artifact_scores.h"
#include "cli/engine/output.h"
#include "cli/engine/publish.h"
#include "cli/engine/servers.h"
#include "cli/engine/stages.h"
#include "cli/engine/survival.h"
#include "core/error.h"
#include "data/corpus.h"

namespace graft::cli {
namespace {

// Of base and adapted model; nothing where nothing is held out. Where nothing will be rounded, only what is known already.
std::vector<Score> score_adapter(const Session& session, ScoreBook& book, LazyDecoder& decoder, lora::AdapterSet& adapter,
                                 const std::vector<std::string>& formats) {
  const bool known = book.has_scores(identity_of(*session.base, nullptr), session.dtypes()) &&
                     book.has_scores(identity_of(*session.base, &adapter), session.dtypes());
  if (book.sets().empty() || !(known || std::any_of(formats.begin(), formats.end(), quantizes))) return {};
  std::vector<Score> scores = score_models(session, book, decoder, &adapter);
  decoder.release();
  return scores;
}

// A wrong working directory must not switch the check of survival off.
void check_corpus(const Session& session, const std::vector<std::string>& formats) {
  const std::string& corpus = session.config.corpus.dir;
  const bool asked = session.config.export_.min_survival > 0 && std::any_of(formats.begin(), formats.end(), quantizes);
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
  exports::check_formats(formats, session.base->spec(), session.config.lora);
  check_export_room(session, formats);
  check_calibration(session, formats);
  const auto adapter = session.adapter(options.adapter);
  ScoreBook book(session);
  LazyDecoder decoder(*session.base, session.dtypes());
  std::vector<Score> scores = score_adapter(session, book, decoder, *adapter, formats);
  const Published published = publish(session, book, *adapter, decoder, formats, Scored::quantized, scores);
  if (context.json) {
    Json list = Json::array();
    for (const auto& artifact : published.artifacts) {
      list.push_back(artifact.json());
      list.back().update(survival_json(scores, artifact.format));
    }
    print_json({{"directory", session.export_dir().string()}, {"artifacts", list}, {"withdrawn", published.refused}});
  } else {
    if (!scores.empty()) std::cout << score_table(scores) << "\n";
    std::cout << text_of(published.artifacts) << serving_line(published.serving);
  }
  if (!published.refused.empty()) throw GateError(published.refused);
  return kDone;
}

}  // namespace graft::cli
