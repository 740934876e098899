#include "cli/engine/report.h"

#include <ctime>
#include <optional>

#include "cli/engine/machine.h"
#include "cli/engine/survival.h"
#include "core/config_reader.h"
#include "core/error.h"
#include "core/progress.h"

namespace graft::cli {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

std::string listed(const std::map<std::string, std::int64_t>& counts) {
  std::string out;
  for (const auto& [reason, n] : counts)
    if (n > 0) out += cat(out.empty() ? "" : ", ", n, " ", reason);
  return out.empty() ? "none" : out;
}

Pairs lineage_of(const Session& session, const RunResult& result, const train::Pins& pins) {
  const auto& config = session.config;
  std::string sources;
  for (const auto& source : config.corpus.sources) sources += cat(sources.empty() ? "" : ", ", source.path);
  Pairs pairs = {
      {"documents from", sources},
      {"documents read by this command", std::to_string(result.prepared.documents_read)},
      {"left out of these", listed(result.prepared.dropped_documents)},
      {"tokens dropped when packing", listed(result.trained.dropped_tokens)},
      {"training snapshot", pins.text("corpus")},
      {"base model", config.base},
      {"base architecture", cat(session.base->spec().architecture, ", ",
                                human_count(static_cast<double>(session.base->spec().parameters())), " parameters")},
      {"base fingerprint", session.base->identity()},
      {"tokenizer", cat(session.tokenizer->kind(), ", ", session.tokenizer->vocab_size(), " ids, ", session.tokenizer->hash())},
      {"adapter", cat("rank ", config.lora.rank, ", alpha ", config.lora.alpha, config.lora.rslora ? " (rsLoRA)" : "", ", ",
                      human_count(static_cast<double>(result.trained.adapter_parameters)), " parameters")}};
  return pairs;
}

// What the run was trained and, in training, scored on: documents may have come since.
std::vector<data::ShardRecord> shards_in(const train::Pins& pins, const std::string& corpus) {
  const std::vector<data::ShardRecord> all = data::read_manifest(corpus);
  std::vector<data::ShardRecord> shards = data::shards_of(all, "train", pins.text("corpus"));
  for (const auto& [set, snapshot] : pins.heldout)
    for (data::ShardRecord& shard : data::shards_of(all, set, snapshot)) shards.push_back(std::move(shard));
  return shards;
}

Pairs resources_of(const RunResult& result) {
  const auto& trained = result.trained;
  return {{"training", cat(trained.steps, " steps, ", human_count(static_cast<double>(trained.tokens)), " tokens in ",
                           human_time(trained.seconds),
                           trained.merge_aware.empty() ? ""
                                                       : cat(", from step ", trained.merge_aware_from, " on with the weights as ",
                                                             trained.merge_aware, " has them"))},
          {"speed", cat(human_count(trained.tokens_per_second()), " tokens/s")},
          {"peak memory", human_bytes(static_cast<double>(result.peak_memory))},
          {"memory planned before the first step", human_bytes(static_cast<double>(trained.planned_memory))},
          {"skipped steps", std::to_string(trained.skipped)},
          {"numbers",
           cat("base in ", trained.storage_dtype, ", computed in ", trained.compute_dtype, "; adapter and optimizer in f32")},
          {"machine", cat(processor_name(), ", ", processor_count(), " processors")}};
}

// A format's base alone is shown beside the file of that format.
std::vector<train::ReportScore> report_scores(const std::vector<Score>& scores) {
  std::vector<train::ReportScore> rows;
  for (const Score& score : scores) {
    if (is_base_in(score)) continue;
    const Score* const base = find_score(scores, base_in(score.model), score.set);
    rows.push_back({.model = score.model,
                    .set = score.set,
                    .bits_per_byte = score.bits_per_byte,
                    .perplexity = score.perplexity,
                    .tokens = score.tokens,
                    .documents = score.documents,
                    .kept = kept(scores, score.model),
                    .update_kept = percent(update_kept(scores, score.model)),
                    .quantized_base = base == nullptr ? std::nullopt : std::optional(base->bits_per_byte),
                    .kl = score.kl});
  }
  return rows;
}

}  // namespace

train::Report make_report(const Session& session, const RunResult& result) {
  train::Report report;
  report.title = cat("Adapting ", fs::path(session.config.base).filename().string());
  report.program = "graft " GRAFT_VERSION;
  report.created = now_utc();
  report.history = train::read_history(session.run_dir() / "metrics.jsonl");
  report.scores = report_scores(result.scores);
  report.familiar = text_of(result.familiar);
  const train::Pins pins = train::read_pins(session.run_dir()).value();
  report.lineage = lineage_of(session, result, pins);
  for (const auto& shard : shards_in(pins, session.config.corpus.dir))
    report.shards.push_back(
        {shard.split, std::to_string(shard.documents), std::to_string(shard.tokens), shard.source, shard.sha256});
  report.resources = resources_of(result);
  report.answers = result.answers;
  for (const exports::Artifact& artifact : result.artifacts)
    report.artifacts.push_back({artifact.format, artifact.path.string(),
                                std::string(exports::find_exporter(artifact.format).loads_in), artifact.sha256, artifact.bytes,
                                artifact.max_error});
  report.withdrawn = result.withdrawn;
  report.config = dump_config(session.config);
  return report;
}

Json json_of(const RunResult& result, const std::string& report_path) {
  Json scores = Json::array(), artifacts = Json::array(), answers = Json::array();
  for (const Score& score : result.scores) scores.push_back(score.json());
  for (const exports::Artifact& artifact : result.artifacts) {
    artifacts.push_back(artifact.json());
    artifacts.back().update(survival_json(result.scores, artifact.format));
  }
  for (const auto& answer : result.answers)
    answers.push_back({{"prompt", answer.prompt}, {"base", answer.base}, {"adapted", answer.adapted}});
  return {{"prepare", result.prepared.json()},
          {"train", result.trained.json()},
          {"scores", scores},
          {"familiar", json_of(result.familiar)},
          {"artifacts", artifacts},
          {"withdrawn", result.withdrawn},
          {"answers", answers},
          {"seconds", result.seconds},
          {"peak_memory", result.peak_memory},
          {"report", report_path}};
}

}  // namespace graft::cli
