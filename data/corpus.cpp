#include "data/corpus.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/stop.h"
#include "data/token_file.h"

namespace graft::data {
namespace {

class ShardedCorpus : public Corpus {
 public:
  ShardedCorpus(const fs::path& corpus, const std::vector<ShardRecord>& records) {
    for (const ShardRecord& record : records) {
      throw_if_stopped();
      shards_.push_back(std::make_unique<TokenFile>(corpus, record));
      first_.push_back(documents_);
      documents_ += shards_.back()->documents();
      tokens_ += shards_.back()->tokens();
    }
    snapshot_ = corpus_snapshot(records);
  }
  std::int64_t documents() const override { return documents_; }
  std::int64_t tokens() const override { return tokens_; }
  Document document(std::int64_t index) const override {
    const std::size_t shard = shard_of(index);
    return shards_[shard]->document(index - first_[shard]);
  }
  void read(std::int64_t index, std::int64_t begin, std::span<std::int32_t> out, std::span<std::uint8_t> loss) const override {
    const std::size_t shard = shard_of(index);
    shards_[shard]->read(index - first_[shard], begin, out, loss);
  }
  const std::string& snapshot() const override { return snapshot_; }

 private:
  std::size_t shard_of(std::int64_t document) const {
    return static_cast<std::size_t>(std::ranges::upper_bound(first_, document) - first_.begin()) - 1;
  }
  std::vector<std::unique_ptr<TokenFile>> shards_;
  std::vector<std::int64_t> first_;  // index of each shard's first document
  std::int64_t documents_ = 0, tokens_ = 0;
  std::string snapshot_;
};

}  // namespace

bool has_conversations(const fs::path& corpus, const std::string& tokenizer_hash) {
  const std::vector<ShardRecord> records = shards_of(read_manifest(corpus), "train");
  return std::ranges::any_of(records, [&](const ShardRecord& record) {
    if (record.tokenizer_hash != tokenizer_hash) return false;
    return record.conversations ? *record.conversations : TokenFile(corpus, record).has_conversations();
  });
}

std::string corpus_snapshot(std::span<const ShardRecord> records) {
  Sha256 hash;
  for (const ShardRecord& record : records) hash.update(record.sha256 + "\n");
  return hash.hex();
}

std::vector<ShardRecord> shards_of(std::vector<ShardRecord> records, const std::string& split, const std::string& snapshot) {
  std::erase_if(records, [&](const ShardRecord& record) { return record.split != split; });
  if (snapshot.empty()) return records;
  while (!records.empty() && corpus_snapshot(records) != snapshot) records.pop_back();
  return records;
}

std::unique_ptr<Corpus> Corpus::open(const fs::path& corpus, const std::string& split, const std::string& tokenizer_hash,
                                     const std::string& snapshot) {
  const std::vector<ShardRecord> all = read_manifest(corpus);
  if (all.empty()) throw DataError(cat(corpus.string(), ": no corpus here; run 'graft prepare' first"));
  std::set<std::string> splits;
  for (const ShardRecord& record : all) splits.insert(record.split);
  std::vector<ShardRecord> records = shards_of(all, split);
  if (records.empty()) {
    std::string names;
    for (const std::string& name : splits) names += (names.empty() ? "" : ", ") + name;
    throw DataError(cat(corpus.string(), ": no documents in split '", split, "'; the corpus has ", names));
  }
  for (const ShardRecord& record : records) {
    if (!tokenizer_hash.empty() && record.tokenizer_hash != tokenizer_hash) {
      throw DataError(cat((corpus / record.file).string(), ": made with tokenizer ", record.tokenizer_hash.substr(0, 16),
                          "..., the model's is ", tokenizer_hash.substr(0, 16),
                          "...; prepare a corpus for this model in another dir"));
    }
  }
  if (!snapshot.empty()) {
    records = shards_of(all, split, snapshot);
    if (records.empty()) {
      throw DataError(cat(corpus.string(), ": its '", split, "' shards are not those of snapshot ", snapshot.substr(0, 16),
                          "... that the run was started with"));
    }
  }
  return std::make_unique<ShardedCorpus>(corpus, records);
}

}  // namespace graft::data
