#include <iostream>
#include <map>

#include "cli/engine/inspect.h"
#include "core/error.h"
#include "core/stop.h"
#include "data/corpus.h"

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
