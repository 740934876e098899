// Adds documents to a corpus directory: what is known already is left alone, the rest goes into new shards.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "data/prepare.h"
#include "data/seen.h"
#include "data/token_file.h"

namespace graft::data {

enum class Novelty {
  added,      // new
  changed,    // a document of this id is in the corpus with other content; that one stays, this one is added
  unchanged,  // in the corpus already
  duplicate   // its content was seen before under another id
};

// Every document of the corpus is remembered, else a known one would be added again: some 100 bytes each. A corpus that would
// need more memory than that of this many is refused.
inline constexpr std::uint64_t kMaxDocuments = std::uint64_t{1} << 26;

class CorpusWriter {
 public:
  // Locks the directory (made if needed), clears what killed writers left, and learns what is in the corpus.
  // layout: layout_hash() of today's, asked for where there are conversations; its errors.
  // DataError when the corpus was made with another tokenizer, its conversations with another layout, when its manifest lacks
  // shards that were recorded, or when it holds more documents than max_documents.
  CorpusWriter(const CorpusConfig& config, const Tokenizer& tokenizer, std::function<std::string()> layout,
               std::uint64_t max_documents = kMaxDocuments);

  // Documents of sets come before all others, so that a copy elsewhere is the one left out. `split` becomes that of the
  // document's earlier versions where it has some and is not of a set: one must not be trained on while another is held out.
  // DataError when a set's document is among those trained on since an earlier call, or for more new documents than may be
  // remembered.
  Novelty add(std::string& split, const TokenizedDocument& document);
  // Seals what is left; records() has all new shards then. Warns of known documents whose split would be another today.
  void finish();
  const std::vector<ShardRecord>& records() const { return records_; }

 private:
  void remember(std::uint64_t documents);
  void keep_apart(const std::string& split, const TokenizedDocument& document) const;
  std::string known_split(std::uint64_t id) const;
  void seal(const std::string& split, TokenFileWriter& shard);
  void remove_unrecorded() const;

  const CorpusConfig& config_;
  const std::function<std::string()> layout_;
  const std::uint64_t max_documents_;
  std::uint64_t remembered_ = 0;
  std::string tokenizer_hash_;
  std::int32_t vocab_size_;
  std::vector<std::string> sources_;
  DirectoryLock lock_;
  std::vector<ShardRecord> existing_, records_;
  std::map<std::string, std::size_t> shards_;     // per split, in the corpus so far
  std::map<std::string, TokenFileWriter> open_;   // per split
  SeenPairs known_;                               // (id, content) in the corpus before this run
  SeenPairs added_;                               // (id, content) of this run
  SeenPairs contents_;                            // content, 128 bits
  SeenPairs trained_;                             // (id, 0) and content of what is trained on in the corpus before this run
  SeenPairs in_sets_;                             // content of the sets' documents
  std::map<std::string, SeenPairs> not_trained_;  // (id, 0) of the splits but train in the corpus before this run
  SeenPairs stayed_;                              // (id, 0) of known documents that would go elsewhere today
  std::map<std::string, std::int64_t> staying_;   // their number per split
};

}  // namespace graft::data
