#include "cli/engine/stages.h"

#include <algorithm>
#include <optional>
#include <thread>

#include "cli/engine/output.h"
#include "cli/engine/servers.h"
#include "core/config_reader.h"
#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/signature.h"
#include "core/stop.h"
#include "data/corpus.h"
#include "data/find_files.h"
#include "export/calibration.h"
#include "kernels/device.h"
#include "lora/start.h"
#include "train/memory_plan.h"

namespace graft::cli {
namespace {

bool lies_in(const fs::path& path, const fs::path& folder) {
  std::error_code error;  // one that cannot be looked up is no place inside
  const fs::path inner = fs::weakly_canonical(fs::absolute(path), error), outer = fs::canonical(folder, error);
  return !error && std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

std::vector<std::pair<const char*, std::string>> places(const train::RunConfig& config) {
  return {{"run_dir", config.run_dir},
          {"corpus.dir", config.corpus.dir},
          {"export.dir", (fs::path(config.run_dir) / config.export_.dir).string()}};
}

// What is written must not be read as documents the next time.
void check_places(const train::RunConfig& config) {
  for (const data::SourceConfig& source : config.corpus.sources) {
    std::error_code error;  // one that cannot be looked at is reported when it is read
    if (!fs::is_directory(source.path, error)) continue;
    for (const auto& [key, path] : places(config))
      if (lies_in(path, source.path))
        throw ConfigError(cat(key, " ", quote(path), " lies in the source ", quote(source.path),
                              ": what is written there would be read as documents; name a place outside of it"));
  }
}

// A pattern reads what it happens to match.
void check_patterns(const train::RunConfig& config) {
  for (const data::SourceConfig& source : config.corpus.sources) {
    if (source.path.find_first_of("*?[") == std::string::npos) continue;
    for (const std::string& file : data::find_files(source.path))
      for (const auto& [key, path] : places(config))
        if (lies_in(file, path))
          throw ConfigError(cat("the source ", quote(source.path), " matches ", quote(file), ", which lies in ", key, " ",
                                quote(path), " and was written by graft; name a place outside, or a narrower pattern"));
  }
}

// The documents that the adapter was trained on, else all there are.
std::string training_snapshot(const Session& session) {
  const auto run = train::read_pins(session.run_dir());
  return run ? run->text("corpus") : snapshot_today(session);
}

exports::CalibrationRows calibration_rows(const Session& session) {
  return {session.config.corpus.dir, session.tokenizer->hash(), training_snapshot(session),
          session.config.export_.calibration.rows, session.config.train.length};
}

bool calibrates(const std::vector<std::string>& formats) {
  return std::any_of(formats.begin(), formats.end(), [](auto& name) { return exports::find_exporter(name).calibrates; });
}

std::string count(std::int64_t n) { return human_count(static_cast<double>(n)); }

void check_merge_aware(const Session& session) {
  const std::string& format = session.config.train.merge_aware.format;
  if (format.empty()) return;
  const exports::Exporter& exporter = exports::find_exporter(format);
  if (!exporter.quantizes)
    throw ConfigError(cat("train.merge_aware.format: ", format,
                          " has no grid that training could learn to live with; name a quantized format, or leave it out"));
  if (exporter.served == nullptr)
    throw ConfigError(
        cat("train.merge_aware.format: the values of ", format,
            " depend on more than the weights, training cannot round to them at each step; name a format that rounds "
            "to the nearest value or searches scales"));
  if (const std::string& precision = session.config.train.base_precision; precision != "full")
    throw ConfigError(cat("train.merge_aware rounds the weights at each step, train.base_precision: ", precision,
                          " has them in codes of its own; set train.base_precision: full, or leave train.merge_aware out"));
  if (kernels::device() == kernels::Device::cuda)
    throw ConfigError(
        "train.merge_aware rounds on the processor at each step, which would fetch every weight from the GPU and back; "
        "set device: cpu, or leave train.merge_aware out");
  exports::check_formats({format}, session.base->spec(), session.config.lora);
}

// What training rounds to.
train::Served served_values(const Session& session, const exports::Exporter& exporter) {
  exports::Folds folds;
  if (exporter.folds != nullptr) {
    const Dtypes dtypes = session.dtypes();
    exports::Calibration calibration({*session.base, nullptr, dtypes.storage}, calibration_rows(session), dtypes.compute);
    folds = exporter.folds(calibration);
  }
  return [&spec = session.base->spec(), &exporter, folds](const model::TensorSpec& tensor, std::int64_t begin,
                                                          const at::Tensor& rows) {
    return folds.undo(tensor.name, exporter.served(spec, tensor, folds.apply(tensor.name, rows, begin)), begin);
  };
}

}  // namespace

void check_plan(const Session& session, const std::vector<std::string>& formats) {
  check_places(session.config);
  check_signing_key(session);
  exports::check_formats(formats, session.base->spec(), session.config.lora);
  check_export_room(session, formats);
  check_merge_aware(session);
  lora::match_targets(session.config.lora, lora::linear_names(*session.base));
  if (const std::string& start = session.config.lora.start_from; !start.empty() && lies_in(start, session.run_dir() / "adapter"))
    throw ConfigError(cat("lora.start_from ", quote(start), " is the adapter that a training in run_dir ",
                          quote(session.config.run_dir), " replaces; name another run_dir"));
  lora::open_start(session.config.lora, *session.base);
  check_servers(session, formats);
  train::check_fit(session.config, session.base->spec(), *session.tokenizer);
}

void check_heldout(const Session& session, const std::vector<std::string>& formats) {
  const data::CorpusConfig& corpus = session.config.corpus;
  const auto records = data::read_manifest(corpus.dir);
  if (std::any_of(records.begin(), records.end(), [](auto& record) { return record.split != "train"; })) return;
  const std::string none =
      cat("no document was held out, so that the models cannot be scored: corpus.heldout ", corpus.heldout,
          " chooses by hash; a larger one holds more, in another corpus.dir, for known documents stay where they are");
  const bool quantizes =
      std::any_of(formats.begin(), formats.end(), [](auto& name) { return exports::find_exporter(name).quantizes; });
  if (corpus.heldout > 0 && quantizes && session.config.export_.min_survival > 0)
    throw DataError(cat(none,
                        ". Nor could export.min_survival judge the quantized formats: set corpus.heldout: 0.2, say, and another "
                        "corpus.dir, or give a source a set; export.min_survival: 0 keeps any file unseen"));
  log::warn("prepare", none);
}

ExportBytes export_bytes(const Session& session, const std::vector<std::string>& formats) {
  const auto adapter = static_cast<std::uint64_t>(lora::parameter_count(session.config.lora, *session.base)) * sizeof(float);
  ExportBytes needed;
  std::uint64_t passes = 0;
  for (const std::string& name : formats) {
    const exports::Exporter& exporter = exports::find_exporter(name);
    const std::uint64_t bytes = exporter.bytes == nullptr ? adapter : exporter.bytes(session.base->spec());
    if (fs::exists(session.export_dir() / exports::artifact_name(exporter))) {
      needed.replacing = std::max(needed.replacing, bytes);
      continue;
    }
    needed.anew += bytes;
    if (exporter.quantizes && exporter.merges && !exporter.calibrates) passes = std::max(passes, bytes);
  }
  needed.anew += passes;
  return needed;
}

void check_export_room(const Session& session, const std::vector<std::string>& formats) {
  const ExportBytes needed = export_bytes(session, formats);
  std::error_code error;
  const fs::space_info space = fs::space(train::existing_part(session.export_dir()), error);
  if (error) return;
  const std::string free = human_bytes(static_cast<double>(space.available));
  if (space.available < needed.anew)
    throw MachineError(cat("the exports need ", human_bytes(static_cast<double>(needed.anew)), " on the disk of ",
                           session.export_dir().string(), ", ", free,
                           " are free; free space, choose fewer or smaller export.formats, or name another export.dir"));
  if (space.available < needed.anew + needed.replacing)
    log::warn("export", "a file that takes the place of an older one needs up to ",
              human_bytes(static_cast<double>(needed.replacing)), " beside it for a while, and ", free,
              " are free on the disk of ", session.export_dir().string());
}

void check_calibration(const Session& session, const std::vector<std::string>& formats) {
  if (calibrates(formats)) exports::check_enough(calibration_rows(session));
}

std::string snapshot_today(const Session& session) {
  std::vector<data::ShardRecord> shards = data::read_manifest(session.config.corpus.dir);
  std::erase_if(shards, [](const data::ShardRecord& shard) { return shard.split != "train"; });
  return data::corpus_snapshot(shards);
}

Origin origin_of(const Session& session, const lora::AdapterSet& adapter) {
  const auto run = train::read_pins(session.run_dir());
  if (!run || !session.has_adapter()) return {};
  if (exports::adapter_hash(*session.adapter()) != exports::adapter_hash(adapter)) return {};
  return {run->text("corpus"), run->started_from()};
}

data::PrepareReport prepare_corpus(const Session& session) {
  check_places(session.config);
  check_patterns(session.config);
  const auto threads = session.config.threads > 0 ? static_cast<int>(session.config.threads)
                                                  : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return data::prepare(session.config.corpus, *session.tokenizer, session.base->spec().vocab, threads);
}

train::ServedFormat served_format(const Session& session) {
  const std::string& format = session.config.train.merge_aware.format;
  if (format.empty()) return {};
  const exports::Exporter& exporter = exports::find_exporter(format);
  return {[&session, &exporter] { return served_values(session, exporter); },
          exporter.calibrates ? session.config.export_.calibration.rows : 0};
}

train::TrainReport train_adapter(const Session& session, Restart restart) {
  const train::Resume resume = restart == Restart::fresh    ? train::Resume::fresh
                               : restart == Restart::resume ? train::Resume::required
                                                            : train::Resume::automatic;
  return train::train(session.config, *session.base, *session.tokenizer, resume, served_format(session));
}

std::string model_name(const Session& session) {
  const fs::path run_dir = fs::absolute(session.run_dir()).lexically_normal();
  return run_dir.has_filename() ? run_dir.filename().string() : run_dir.parent_path().filename().string();
}

std::vector<exports::Artifact> export_adapter(const Session& session, const lora::AdapterSet& adapter,
                                              const std::vector<std::string>& formats, const exports::Gate& gate) {
  const Origin origin = origin_of(session, adapter);
  exports::ExportRequest request{.base = *session.base,
                                 .adapter = adapter,
                                 .storage = session.dtypes().storage,
                                 .name = model_name(session),
                                 .config_hash = sha256_hex(config_json(session.config).dump()),
                                 .corpus = origin.corpus,
                                 .started_from = origin.started_from,
                                 .keeps = is_vouched_for(session),
                                 .stop_ids = stop_ids(session)};
  std::optional<exports::Calibration> calibration;
  if (calibrates(formats))
    request.calibration = &calibration.emplace(exports::MergedModel(request.base, &request.adapter, request.storage),
                                               calibration_rows(session), session.dtypes().compute);
  return exports::export_all(formats, request, session.export_dir(), gate);
}

bool is_vouched_for(const Session& session) {
  const std::string& key = session.config.export_.signing_key;
  const fs::path directory = session.export_dir();
  if (key.empty() || exports::is_signed_by(directory, key)) return true;
  if (exports::Manifest(directory).is_signed())
    throw DataError(cat((directory / "manifest.json").string(), " is not what ", key,
                        " signed: it was changed since, or signed with another key; `graft verify` says what differs. Remove ",
                        directory.string(), " to write all of it again"));
  return false;
}

void check_signing_key(const Session& session) {
  if (const std::string& key = session.config.export_.signing_key; !key.empty()) sign_ed25519("", key);
  is_vouched_for(session);
}

void sign_export(const Session& session) {
  if (const std::string& key = session.config.export_.signing_key; !key.empty())
    exports::sign_manifest(session.export_dir(), key);
}

std::vector<Score> score_models(const Session& session, ScoreBook& book, LazyDecoder& decoder, lora::AdapterSet* adapter) {
  std::vector<Score> scores = book.scores("base", identity_of(*session.base, nullptr), session.dtypes(),
                                          [&]() -> model::Decoder& { return decoder.with(nullptr); });
  if (adapter != nullptr)
    for (Score& score : book.scores("adapted", identity_of(*session.base, adapter), session.dtypes(),
                                    [&]() -> model::Decoder& { return decoder.with(adapter); }))
      scores.push_back(std::move(score));
  return scores;
}

std::string text_of(const data::PrepareReport& report, const std::string& corpus) {
  std::vector<std::vector<std::string>> rows = {{"split", "documents", "tokens"}};
  for (const auto& [split, documents] : report.documents_by_split)
    rows.push_back({split, std::to_string(documents), std::to_string(report.tokens_by_split.at(split))});
  std::string out = cat("corpus ", corpus, ": ", report.documents_read, " documents read, ", report.documents_kept, " added, ",
                        report.unchanged_documents, " known already\n");
  if (rows.size() > 1) out += columns(rows);
  for (const auto& [reason, documents] : report.dropped_documents)
    if (documents > 0) out += cat("dropped ", documents, ": ", reason, "\n");
  if (report.changed_documents > 0)
    out += cat(report.changed_documents, " documents have changed since; both versions are in the corpus\n");
  if (report.replaced_sequences > 0) out += cat(report.replaced_sequences, " invalid UTF-8 sequences replaced\n");
  if (report.control_literals > 0)
    out += cat(report.control_literals, " control tokens spelled out in documents, kept as plain text\n");
  return out;
}

std::string text_of(const train::TrainReport& report) {
  std::string out =
      cat(report.already_done ? "trained before: " : "trained ", report.steps, " steps, ", count(report.tokens), " tokens in ",
          human_time(report.seconds), " (", count(static_cast<std::int64_t>(report.tokens_per_second())), " tokens/s), loss ",
          fixed(report.first_loss, 4), " -> ", fixed(report.last_loss, 4), "\n");
  if (report.corpus_changed)
    out +=
        "documents that came into the corpus since this run began were not trained on; another run_dir takes all, and `graft run "
        "--runs DIR` finds one\n";
  if (!report.merge_aware.empty())
    out += cat("from step ", report.merge_aware_from, " on with the weights as ", report.merge_aware, " has them\n");
  if (report.skipped > 0)
    out += cat(report.skipped,
               " steps changed nothing: no token to learn, or a loss or gradient that was not finite (loss.jsonl)\n");
  for (const auto& [reason, tokens] : report.dropped_tokens)
    if (tokens > 0) out += cat(tokens, " tokens left out when packing: ", reason, "\n");
  out += cat("adapter ", report.adapter.string(), ", ", count(report.adapter_parameters), " parameters; ", report.compute_dtype,
             ", peak memory ", human_bytes(static_cast<double>(report.peak_memory)), "\n");
  return out;
}

std::string text_of(const std::vector<exports::Artifact>& artifacts) {
  std::vector<std::vector<std::string>> rows = {{"format", "written to", "size", "sha256"}};
  for (const exports::Artifact& artifact : artifacts)
    rows.push_back({artifact.format, artifact.path.string(), human_bytes(static_cast<double>(artifact.bytes)),
                    artifact.sha256.substr(0, 16)});
  return columns(rows);
}

}  // namespace graft::cli
