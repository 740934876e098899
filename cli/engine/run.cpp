#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>

#include "cli/engine/artifact_scores.h"
#include "cli/engine/output.h"
#include "cli/engine/publish.h"
#include "cli/engine/report.h"
#include "cli/engine/servers.h"
#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "core/stop.h"
#include "train/memory_plan.h"

namespace graft::cli {
namespace {

// A config without sources goes on with the corpus that is there.
data::PrepareReport prepare_or_keep(const Session& session) {
  if (session.config.corpus.sources.empty() && !data::read_manifest(session.config.corpus.dir).empty()) {
    log::info("run", "no corpus.sources: using ", session.config.corpus.dir, " as it is");
    return {};
  }
  data::PrepareReport report = prepare_corpus(session);
  log::info("run", report.documents_read, " documents read: ", report.documents_kept, " added, ", report.unchanged_documents,
            " known already", report.dropped_documents.empty() ? "" : ", dropped: ", data::reasons(report.dropped_documents));
  return report;
}

void score_and_export(const Session& session, RunResult& result) {
  const auto adapter = session.adapter();
  ScoreBook book(session);
  const std::string adapted = identity_of(*session.base, adapter.get()), bare = identity_of(*session.base, nullptr);
  // Scores are those of the base as it will be served, which one in codes while training is not.
  const bool as_served = train::base_precision(session.config.train) == model::BasePrecision::full;
  if (!result.trained.already_done && as_served && result.trained.merge_aware.empty())
    book.remember("adapted", adapted, session.dtypes(), result.trained.heldout,
                  train::read_pins(session.run_dir()).value().heldout);
  LazyDecoder decoder(*session.base, session.dtypes());
  result.scores = score_models(session, book, decoder, adapter.get());
  result.familiar = familiar_documents(session, book, result.scores, *adapter);
  for (const std::string& prompt : session.config.eval.prompts) {
    throw_if_stopped();
    const auto base = book.answer(prompt, bare, session.dtypes(), [&]() -> model::Decoder& { return decoder.with(nullptr); });
    const auto own =
        book.answer(prompt, adapted, session.dtypes(), [&]() -> model::Decoder& { return decoder.with(adapter.get()); });
    result.answers.push_back({prompt, base, own});
  }
  decoder.release();
  Published published = publish(session, book, *adapter, decoder, session.config.export_.formats, Scored::all, result.scores);
  result.artifacts = std::move(published.artifacts);
  result.withdrawn = std::move(published.refused);
  result.serving = std::move(published.serving);
}

void print_summary(const Session& session, const RunResult& result, const fs::path& report) {
  if (!result.scores.empty()) std::cout << score_table(result.scores) << text_of(result.familiar) << "\n";
  if (result.prepared.documents_read > 0) std::cout << text_of(result.prepared, session.config.corpus.dir) << "\n";
  std::cout << text_of(result.trained);
  for (const auto& answer : result.answers)
    std::cout << "\nprompt   " << answer.prompt << "\nbase     " << answer.base << "\nadapted  " << answer.adapted << "\n";
  std::cout << "\n";
  if (!result.artifacts.empty()) std::cout << text_of(result.artifacts) << serving_line(result.serving) << "\n";
  std::cout << columns({{"corpus", session.config.corpus.dir},
                        {"adapter", result.trained.adapter.string()},
                        {"report", report.string()},
                        {"peak memory", human_bytes(static_cast<double>(result.peak_memory))},
                        {"this took", human_time(result.seconds)}});
}

}  // namespace

int graft_run(const Context& context, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  train::RunConfig config = context.config;
  const bool scheduled = !options.runs.empty();
  if (scheduled && fs::weakly_canonical(options.runs) == fs::weakly_canonical(config.corpus.dir))
    throw ConfigError(
        cat("--runs ", options.runs, " is corpus.dir, and each has a lock of its own; name another directory for runs"));
  if (scheduled) config.run_dir = options.runs;  // until the corpus tells which of them
  const Session session(config);
  check_plan(session, config.export_.formats);
  if (config.train.base_precision != "full")  // else the training's own plan holds it
    train::plan_scores(config, session.base->spec(), session.dtypes().compute, train::available_memory()).check();
  std::optional<DirectoryLock> lock;
  if (scheduled) lock.emplace(graft::create_directories(options.runs));
  RunResult result;
  result.prepared = prepare_or_keep(session);
  throw_if_stopped();
  check_heldout(session, config.export_.formats);
  std::vector<std::string> looking = config.export_.formats;
  if (const std::string& format = config.train.merge_aware.format; !format.empty()) looking.push_back(format);
  check_calibration(session, looking);
  if (scheduled) config.run_dir = scheduled_run(session, options.runs).string();
  result.trained = train_adapter(session, options.restart);
  score_and_export(session, result);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.peak_memory = std::max(peak_memory(), result.trained.peak_memory);
  const fs::path report = session.run_dir() / "report.html";
  write_file(report, train::render(make_report(session, result)));
  if (context.json)
    print_json(json_of(result, report.string()));
  else
    print_summary(session, result, report);
  if (!result.withdrawn.empty()) throw GateError(result.withdrawn);
  return kDone;
}

}  // namespace graft::cli
