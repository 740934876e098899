#include "train/train.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/stop.h"
#include "data/corpus.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile.h"
#include "kernels/device.h"
#include "lora/start.h"
#include "model/compute_type.h"
#include "train/checkpoint.h"
#include "train/dtypes.h"
#include "train/identity.h"
#include "train/memory_plan.h"
#include "train/run_dir.h"
#include "train/trainer.h"

namespace graft::train {
namespace {

constexpr std::uint64_t kMaxReportBytes = 16 << 20;

int set_threads(std::int64_t wanted) {
  if (wanted > 0) at::set_num_threads(static_cast<int>(wanted));
  return at::get_num_threads();
}

std::string storage_name(const Dtypes& dtypes, const TrainConfig& config) {
  const std::string full = model::name_of(dtypes.storage);
  return base_precision(config) == model::BasePrecision::full ? full : cat(config.base_precision, " of ", full);
}

std::string this_program() { return cat("graft ", GRAFT_VERSION, " on ", kernels::cpu::name_of(kernels::cpu::isa())); }

// The corpus as it is now: its training shards and every other split as a held-out set.
Pins pin_corpus(const fs::path& corpus) {
  std::map<std::string, std::vector<data::ShardRecord>> splits;
  for (const auto& record : data::read_manifest(corpus)) splits[record.split].push_back(record);
  if (!splits.count("train")) throw DataError(cat(corpus.string(), ": no documents to train on; run 'graft prepare' first"));
  Pins pins;
  pins.program = this_program();
  for (const auto& [split, records] : splits) {
    if (split == "train")
      pins.identity["corpus"] = data::corpus_snapshot(records);
    else
      pins.heldout[split] = data::corpus_snapshot(records);
  }
  return pins;
}

void check_same_run(const fs::path& run_dir, const Json& then, const Json& now) {
  const auto lines = differences(then, now);
  if (lines.empty()) return;
  std::string list;
  for (const auto& line : lines) list += "\n  " + line;
  throw DataError(
      cat(run_dir.string(), " holds a run that differs from this one:", list,
          "\nPut these settings back (`threads: 0` is all processors), name another run_dir, or begin anew with --fresh "
          "(its checkpoints are removed)"));
}

struct Opened {
  Pins pins;
  Dtypes dtypes;
  int threads;
  bool corpus_changed;  // since it began
  std::string program;  // this one; pins.program began it
};

// What a run of this config is today, on the documents of `snapshot`; where one began, in the types that it began in.
Json identity_today(const RunConfig& config, const model::WeightSource& base, const data::Tokenizer& tokenizer,
                    const ServedFormat& served, const std::optional<Pins>& then, const std::string& snapshot) {
  const Dtypes dtypes = dtypes_of(config.train, then);
  return run_identity(config, {.base = base.identity(),
                               .tokenizer = tokenizer.hash(),
                               .corpus = snapshot,
                               .device = kernels::device_name(kernels::device()),
                               .threads = set_threads(config.threads),
                               .storage = storage_name(dtypes, config.train),
                               .compute = model::name_of(dtypes.compute),
                               .calibration_rows = served.calibration_rows,
                               .started_from = lora::start_identity(config.lora),
                               .base_config = then && !then->identity.contains("base_config") ? "" : config_hash(base)});
}

// What this run is. begun: goes on with what the directory holds; DataError when that is another one.
Opened open_run(const RunDir& run, bool begun, const RunConfig& config, const model::WeightSource& base,
                const data::Tokenizer& tokenizer, const ServedFormat& served) {
  const std::optional<Pins> then = begun ? read_pins(run.path()) : std::nullopt;
  if (begun && !then)
    throw DataError(cat(run.path().string(), " holds checkpoints but no run.json that says whose; begin anew with --fresh"));
  const Pins today = pin_corpus(config.corpus.dir);
  Pins pins = then ? *then : today;
  const std::string snapshot = pins.text("corpus");
  pins.identity = identity_today(config, base, tokenizer, served, then, snapshot);
  if (then) check_same_run(run.path(), then->identity, pins.identity);
  const bool corpus_changed = today.identity["corpus"] != snapshot;
  const auto shards = data::read_manifest(config.corpus.dir);
  if (corpus_changed && !shards.empty() && data::shards_of(shards, "train", snapshot).empty())
    throw DataError(cat(config.corpus.dir, " is not the corpus that the run in ", run.path().string(),
                        " was trained on: it does not begin with those documents; name that corpus, or another run_dir"));
  if (corpus_changed)
    log::warn("train",
              "the corpus has changed since this run began, and it stays with the documents it began with; to train on all of "
              "them name another run_dir, or begin anew with --fresh");
  return {pins, dtypes_of(config.train, then), set_threads(config.threads), corpus_changed, today.program};
}

// Of the adapter's two files, for train.json.
Json adapter_sums(const fs::path& adapter) {
  Json sums = Json::object();
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) sums[file] = sha256_file(adapter / file);
  return sums;
}

// The report of this very run, when it is finished and its adapter is what the report says.
std::optional<TrainReport> finished(const RunDir& run, const Json& identity) {
  if (!fs::exists(run.report())) return std::nullopt;
  try {
    const std::string origin = run.report().string();
    const Json json = read_json(run.report(), kMaxReportBytes);
    if (json_get<Json>(json, "identity", origin) != identity) return std::nullopt;
    if (json_get<Json>(json, "sha256", origin) != adapter_sums(run.adapter())) {
      log::warn("train", run.adapter().string(), " is not what was trained here; writing it again from the last checkpoint");
      return std::nullopt;
    }
    TrainReport report = report_from_json(json_get<Json>(json, "report", origin), origin);
    report.adapter = run.adapter();
    report.already_done = true;
    return report;
  } catch (const UserError& error) {
    log::warn("train", "the report of the finished run cannot be used: ", error.what());
    return std::nullopt;
  }
}

// What a run reads: mapped, each shard's sha256 checked.
struct Documents {
  std::unique_ptr<data::Corpus> training;
  std::map<std::string, std::unique_ptr<data::Corpus>> heldout;  // by set
  std::unique_ptr<data::BatchSource> batches;                    // of training
};

Documents open_documents(const RunConfig& config, const Pins& pins, const data::Tokenizer& tokenizer) {
  throw_if_stopped();
  Documents documents;
  documents.training = data::Corpus::open(config.corpus.dir, "train", tokenizer.hash(), pins.text("corpus"));
  for (const auto& [set, pinned] : pins.heldout)
    documents.heldout[set] = data::Corpus::open(config.corpus.dir, set, tokenizer.hash(), pinned);
  documents.batches = data::pack(*documents.training, config.train.length, data::long_documents(config.train.long_documents));
  return documents;
}

// The plan, once it is known to fit.
MemoryPlan check_room(const RunDir& run, const RunConfig& config, const model::WeightSource& base, const Dtypes& dtypes,
                      const data::BatchSource& batches) {
  throw_if_stopped();
  const std::int64_t parameters = lora::parameter_count(config.lora, base);
  const MemoryPlan plan = plan_run(config, base.spec(), dtypes.compute, parameters, batches.rows_per_epoch(), available_memory());
  log::info("train", plan.text());
  plan.check();
  check_disk(run.path(), parameters, config.train.keep_checkpoints);
  return plan;
}

// Empty when nothing was held out.
Trainer::Evaluate evaluation(const RunConfig& config, model::Decoder& decoder, const Documents& documents,
                             const data::Tokenizer& tokenizer) {
  if (documents.heldout.empty()) return {};
  return [&] {
    std::vector<eval::HeldoutScore> scores;
    for (const auto& [set, corpus] : documents.heldout)
      scores.push_back(eval::heldout(decoder, *corpus, tokenizer, set, config.eval.length, config.eval.max_tokens));
    return scores;
  };
}

// The adapter, then the report: a run that has it is finished.
void write_result(const RunDir& run, const lora::AdapterSet& adapters, const model::WeightSource& base, const Pins& pins,
                  const TrainReport& report) {
  DirectoryWriter writer(run.adapter());
  lora::save_peft(adapters, writer.path(), base.path().string());
  writer.commit();
  const Json json = {{"identity", pins.identity}, {"sha256", adapter_sums(run.adapter())}, {"report", report.json()}};
  write_file(run.report(), json.dump(2) + "\n");
}

}  // namespace

std::vector<std::string> changes_since(const Pins& then, const RunConfig& config, const model::WeightSource& base,
                                       const data::Tokenizer& tokenizer, const ServedFormat& served) {
  return differences(then.identity, identity_today(config, base, tokenizer, served, then, then.text("corpus")));
}

void check_fit(const RunConfig& config, const model::ModelSpec& spec, const data::Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() > spec.vocab)
    throw DataError(cat("the tokenizer ", tokenizer.origin().string(), " has ", tokenizer.vocab_size(),
                        " ids, the base's embedding has ", spec.vocab, " rows; use the tokenizer that belongs to the base"));
  check_length("train.length", config.train.length, spec);
  check_length("eval.length", config.eval.length, spec);
}

void check_length(const char* key, std::int64_t length, const model::ModelSpec& spec) {
  if (spec.context > 0 && length > spec.context)
    throw ConfigError(cat(key, " is ", length, ", the base's context is ", spec.context, " tokens; lower ", key));
}

TrainReport train(const RunConfig& config, const model::WeightSource& base, const data::Tokenizer& tokenizer, Resume resume,
                  const ServedFormat& served) {
  check_fit(config, base.spec(), tokenizer);
  const auto start = lora::open_start(config.lora, base);
  const RunDir run(config.run_dir);
  const bool begun = resume != Resume::fresh && run.begun();  // a fresh run takes the old one's place once it is known to fit
  if (resume == Resume::required && !begun)
    throw DataError(cat(run.path().string(), " holds no checkpoint to go on from; run without --resume to begin"));

  const Opened opened = open_run(run, begun, config, base, tokenizer, served);
  const Pins& pins = opened.pins;
  const Dtypes dtypes = opened.dtypes;
  if (begun)
    if (auto report = finished(run, pins.identity)) {
      report->corpus_changed = opened.corpus_changed;
      return *report;
    }

  const Documents documents = open_documents(config, pins, tokenizer);
  const data::BatchSource& batches = *documents.batches;
  const std::int64_t steps = total_steps(config.train, batches);
  if (const std::string few = too_few_rows(config.train, batches); !few.empty()) log::warn("train", few);

  // The model.
  const MemoryPlan plan = check_room(run, config, base, dtypes, batches);
  if (resume == Resume::fresh) run.clear();
  run.write_pins(pins);
  const Served rounding = served.values ? served.values() : Served();
  const auto decoder = model::Decoder::load(base, dtypes.storage, dtypes.compute, base_precision(config.train));
  throw_if_stopped();
  const auto adapters = lora::create(config.lora, *decoder, static_cast<std::uint64_t>(config.train.seed));
  if (start) lora::copy_factors(*start, *adapters);
  adapters->base_identity = base.identity();
  lora::attach(*adapters, *decoder);

  // The state: from the newest checkpoint, or the beginning.
  Parameters parameters{*adapters, at::zeros_like(adapters->parameters), at::zeros_like(adapters->parameters)};
  Checkpoints checkpoints(run.checkpoints(), pins.identity);
  const std::optional<TrainState> loaded = checkpoints.load_newest(parameters);
  if (loaded && loaded->step > steps)
    throw DataError(cat(run.path().string(), " holds a checkpoint of step ", loaded->step, " of a run of ", steps,
                        " steps; begin anew with --fresh"));
  TrainState state = loaded.value_or(TrainState{});
  if (!loaded) state.cursor.seed = static_cast<std::uint64_t>(config.train.seed);
  log::info(
      "train",
      loaded ? cat("going on after step ", state.step, " of ", steps) : cat(steps, " steps of ", config.train.rows, " rows"),
      "; ", adapters->adapters.size(), " adapters, ", adapters->count(), " parameters; ", model::name_of(dtypes.compute), " on ",
      opened.threads, " threads");

  if (loaded && !pins.program.empty() && pins.program != opened.program)
    log::warn("train", "this run was begun by ", pins.program, " and goes on with ", opened.program,
              ": its bits may be others than those of one that was never stopped");

  std::optional<MergeAware> merge_aware;
  if (rounding) {
    merge_aware.emplace(rounding, steps_before_merge_aware(config.train, steps), base, dtypes.storage, *adapters, *decoder);
    log::info("train", "merge-aware from step ", merge_aware->first() + 1, " on: the weights are rounded as in ",
              config.train.merge_aware.format);
  }

  const Trainer::Evaluate evaluate = evaluation(config, *decoder, documents, tokenizer);
  Metrics metrics(run.path(), state.logs);
  Trainer trainer(config.train, *decoder, batches, parameters, state, metrics, checkpoints, evaluate,
                  merge_aware ? &*merge_aware : nullptr);
  const kernels::cpu::ThreadPlaces places;
  std::vector<eval::HeldoutScore> scores = trainer.run();
  if (scores.empty() && evaluate) {  // stopped after the last evaluation, before the report
    if (merge_aware) merge_aware->follow(state.step);
    scores = evaluate();
  }

  TrainReport report{.adapter = run.adapter(),
                     .corpus_changed = opened.corpus_changed,
                     .resumed_from = loaded ? loaded->step : -1,
                     .steps = state.step,
                     .skipped = state.step - state.updates,
                     .tokens = state.tokens,
                     .trained_tokens = state.trained_tokens,
                     .adapter_parameters = adapters->count(),
                     .first_loss = state.first_loss,
                     .last_loss = state.last_loss,
                     .seconds = state.seconds,
                     .planned_memory = plan.total(),
                     .peak_memory = peak_memory(),
                     .threads = opened.threads,
                     .storage_dtype = storage_name(dtypes, config.train),
                     .compute_dtype = model::name_of(dtypes.compute),
                     .dropped_tokens = batches.dropped_tokens(),
                     .merge_aware = config.train.merge_aware.format,
                     .merge_aware_from = merge_aware ? merge_aware->first() + 1 : 0,
                     .heldout = std::move(scores)};
  write_result(run, *adapters, base, pins, report);
  return report;
}

}  // namespace graft::train
