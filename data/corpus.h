// A corpus directory: sealed immutable HDF5 shards and an append-only manifest (data/token_file.h is the shard's format).
//
//   corpus/manifest.jsonl   one JSON record per shard, in order of sealing
//   corpus/<split>-<number>-<hash>.h5
//
// A snapshot is the list of shard hashes of one split at one moment; training pins it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/batch_source.h"

namespace graft::data {

inline constexpr int kCorpusSchema = 1;

struct ShardRecord {
  std::string file, sha256, split;                     // split: "train", "heldout", or the name of an evaluation set
  std::uint64_t tokens = 0, documents = 0, bytes = 0;  // bytes: of cleaned UTF-8 text
  std::string tokenizer_hash, source;
  std::int32_t vocab_size = 0;
  std::optional<bool> conversations = {};  // whether some of its documents are; nothing: sealed by an older program
  std::string layout = {};                 // layout_hash() of these; empty: none, or as above
};
std::vector<ShardRecord> read_manifest(const std::filesystem::path& corpus);
void append_manifest(const std::filesystem::path& corpus, const ShardRecord& record);
// Whether documents to train on are conversations; false where there is no corpus, or one of another tokenizer. From the
// manifest; shards whose record does not say it are opened, with the errors of TokenFile.
bool has_conversations(const std::filesystem::path& corpus, const std::string& tokenizer_hash);
// sha256 over the hashes of the shards, in order.
std::string corpus_snapshot(std::span<const ShardRecord> records);
// Those of one split, up to the last one of `snapshot` (empty: all); none when they do not begin with that snapshot.
std::vector<ShardRecord> shards_of(std::vector<ShardRecord> records, const std::string& split, const std::string& snapshot = {});

struct Document {
  std::uint64_t id_hash = 0;  // first 64 bits of sha256 of the document's id
  std::uint64_t bytes = 0;    // of its text that loss falls on, for bits per byte
  std::int64_t tokens = 0;
};

// All shards of one split, mapped and verified once on opening (sha256 against the manifest).
class Corpus {
 public:
  // DataError when the corpus or the split is empty, was made with another tokenizer than `tokenizer_hash` (if not empty), or
  // does not begin with the shards of `snapshot` (if not empty: what was appended since is then left out, for a resumed run).
  static std::unique_ptr<Corpus> open(const std::filesystem::path& corpus, const std::string& split,
                                      const std::string& tokenizer_hash, const std::string& snapshot = {});
  virtual ~Corpus() = default;
  virtual std::int64_t documents() const = 0;
  virtual std::int64_t tokens() const = 0;
  virtual Document document(std::int64_t index) const = 0;
  // Copies tokens [begin, begin + out.size()) of the document; loss gets 1 where a token carries loss as a target, else 0. Of the
  // same size, or one of them empty.
  virtual void read(std::int64_t index, std::int64_t begin, std::span<std::int32_t> out, std::span<std::uint8_t> loss) const = 0;
  virtual const std::string& snapshot() const = 0;  // of its shards, see corpus_snapshot
};

// Packs the corpus into rows of `length` tokens; see batch_source.h. `corpus` must outlive the source.
std::unique_ptr<BatchSource> pack(const Corpus& corpus, std::int64_t length, LongDocuments policy);

}  // namespace graft::data
