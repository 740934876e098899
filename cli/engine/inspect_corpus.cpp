#include <iostream>
#include <map>

#include "cli/engine/inspect.h"
#include "core/error.h"
#include "core/stop.h"
#include "data/corpus.h"
#include "data/token_file.h"
#include "train/run_dir.h"

namespace graft::cli {

Json inspect_corpus(const fs::path& corpus) {
  const auto records = data::read_manifest(corpus);
  std::map<std::string, std::vector<data::ShardRecord>> splits;
  Json shards = Json::array(), list = Json::array();
  for (const auto& record : records) {
    splits[record.split].push_back(record);
    shards.push_back({{"file", record.file},
                      {"split", record.split},
                      {"documents", record.documents},
                      {"tokens", record.tokens},
                      {"bytes of text", record.bytes},
                      {"source", record.source},
                      {"sha256", record.sha256}});
  }
  for (const auto& [split, of_split] : splits) {
    const auto opened = data::Corpus::open(corpus, split, "");  // checks every hash
    std::uint64_t bytes = 0;
    for (const auto& record : of_split) bytes += record.bytes;
    list.push_back({{"split", split},
                    {"shards", of_split.size()},
                    {"documents", opened->documents()},
                    {"tokens", opened->tokens()},
                    {"bytes of text", bytes},
                    {"snapshot", opened->snapshot()}});
  }
  Json found = {{"kind", "corpus"}, {"path", corpus.string()}};
  if (!records.empty()) found.update({{"tokenizer", records.front().tokenizer_hash}, {"vocab_size", records.front().vocab_size}});
  found.update({{"splits", list}, {"shards", shards}, {"verified", "every shard's sha256 is the one in the manifest"}});
  return found;
}

namespace {

// What each shard is to a run: "training set", "held-out set", or not there.
std::map<std::string, std::string> places_in(const std::vector<data::ShardRecord>& records, const InspectOptions& options) {
  const auto pins = train::read_pins(options.run);
  if (!pins) throw DataError(cat(options.run, ": no run began here; it would have a run.json"));
  std::map<std::string, std::string> places;
  const auto place = [&](const std::string& split, const std::string& snapshot, const char* name) {
    const auto pinned = data::shards_of(records, split, snapshot);
    if (pinned.empty())
      throw DataError(
          cat(options.path, ": its '", split, "' shards are not those that the run ", options.run, " was started with"));
    for (const auto& record : pinned) places[record.file] = name;
  };
  place("train", pins->text("corpus"), "training set");
  for (const auto& [set, snapshot] : pins->heldout) place(set, snapshot, "held-out set");
  return places;
}

}  // namespace

Json inspect_document(const InspectOptions& options) {
  const auto records = data::read_manifest(options.path);
  if (records.empty()) throw DataError(cat(options.path, ": no corpus here; --document looks into one"));
  std::map<std::string, std::string> places;
  if (!options.run.empty()) places = places_in(records, options);
  const std::uint64_t wanted = data::hash128(options.document).high;
  Json versions = Json::array();
  for (const auto& record : records) {
    throw_if_stopped();
    const data::TokenFile shard(options.path, record);
    for (std::int64_t i = 0; i < shard.documents(); ++i) {
      const data::Document document = shard.document(i);
      if (document.id_hash != wanted) continue;
      versions.push_back(
          {{"shard", record.file}, {"split", record.split}, {"tokens", document.tokens}, {"bytes of text", document.bytes}});
      if (options.run.empty()) continue;
      const auto place = places.find(record.file);
      versions.back()["in the run"] = place == places.end() ? "no" : place->second;
    }
  }
  return {{"kind", "document"},
          {"corpus", options.path},
          {"id", options.document},
          {"in the corpus", versions.size()},
          {"versions", versions}};
}

void print_batches(const InspectOptions& options) {
  const auto corpus = data::Corpus::open(options.path, "train", "");
  const auto source = data::pack(*corpus, options.length, data::long_documents(options.long_documents));
  if (source->rows_per_epoch() < 1) throw DataError(cat(options.path, " packs into no row of ", options.length, " tokens"));
  data::Cursor cursor{static_cast<std::uint64_t>(options.seed), 0, 0};
  for (std::int64_t i = 0; i < options.batches; ++i) {
    throw_if_stopped();
    const data::Batch batch = source->read(cursor, options.rows);
    std::cout << Json{{"rows", batch.rows},           {"tokens", batch.tokens}, {"labels", batch.labels},
                      {"positions", batch.positions}, {"starts", batch.starts}, {"documents", batch.documents}}
                     .dump()
              << "\n";
    if (!std::cout) throw MachineError("cannot write to standard output");
  }
}

}  // namespace graft::cli
