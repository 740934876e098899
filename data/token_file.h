// A shard: one sealed, immutable HDF5 file of tokenized documents. Any HDF5 library reads it; numbers are
// little-endian.
//
//   attributes of the root group
//     schema         1
//     vocab_size     ids are below this
//     tokenizer      sha256 of what decides the ids, 64 hex digits
//     split          "train", "heldout", or the name of an evaluation set
//   /tokens                  (T)    uint16 when vocab_size <= 65536, else uint32; documents back to back.
//                                   Contiguous, or in chunks that are byte-shuffled and deflated
//   /documents/offset        (n+1)  uint64: tokens of document i are [offset[i], offset[i+1])
//   /documents/id_hash       (n)    uint64: first 64 bits of sha256 of the document's id
//   /documents/content_hash  (2n)   uint64: first 128 bits of sha256 of the cleaned text, high half first
//   /documents/bytes         (n)    uint64: length of the cleaned UTF-8 text; of a conversation: of the words with loss
//   /documents/source        (n)    uint16: line of /sources
//   /sources                 (b)    uint8: names of the sources, one per line
//   /loss/first              (n+1)  uint64: spans of document i are [first[i], first[i+1]); none: all of it carries loss
//   /loss/span               (2s)   uint64: begin and end of a span, in tokens of the shard
//                                   No /loss group: all documents carry loss everywhere
//
// Equal documents in equal order give equal bytes. The file is found through the manifest, which holds its sha256; it
// is checked before libhdf5 sees the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/file.h"
#include "core/hdf5.h"
#include "data/corpus.h"

namespace graft::data {

struct Hash128 {
  std::uint64_t high = 0, low = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};
Hash128 hash128(std::string_view bytes);  // first 128 bits of sha256

struct TokenizedDocument {
  std::uint64_t id_hash = 0, bytes = 0;
  Hash128 content;
  std::uint16_t source = 0;
  std::vector<std::int32_t> ids;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> loss;  // [begin, end) of ids, ascending; empty: all
};

// Gathers the documents of one shard in memory and seals them. Memory: twice the tokens' size on disk, while sealing.
class TokenFileWriter {
 public:
  explicit TokenFileWriter(std::int32_t vocab_size);
  void add(const TokenizedDocument& document);  // throws FormatError for an id outside the vocabulary
  std::uint64_t tokens() const { return offsets_.back(); }
  std::uint64_t documents() const { return id_hashes_.size(); }

  // Writes <split>-<number>-<hash>.h5 into `corpus`, reads it back, and returns its manifest record, complete.
  ShardRecord seal(const std::filesystem::path& corpus, const std::string& split, std::size_t number,
                   const std::string& tokenizer_hash, const std::vector<std::string>& sources, bool deflate) const;

 private:
  std::int32_t vocab_size_;
  std::vector<std::uint16_t> narrow_;  // one of these two holds the tokens
  std::vector<std::uint32_t> wide_;
  std::vector<std::uint64_t> offsets_{0}, id_hashes_, content_hashes_, bytes_, loss_first_{0}, loss_spans_;
  std::vector<std::uint16_t> sources_;
};

// A shard, mapped. Reading is safe from many threads.
class TokenFile {
 public:
  // Checks the file's sha256 and everything else against its manifest record. DataError when the file was changed or
  // cut, FormatError when it breaks the format above, UnsupportedError for a newer schema.
  TokenFile(const std::filesystem::path& corpus, const ShardRecord& record);

  std::int64_t documents() const { return documents_; }
  bool has_conversations() const { return has_loss_; }
  std::int64_t tokens() const { return static_cast<std::int64_t>(tokens_.count); }
  Document document(std::int64_t index) const;
  Hash128 content_hash(std::int64_t index) const;
  // As Corpus::read.
  void read(std::int64_t index, std::int64_t begin, std::span<std::int32_t> out, std::span<std::uint8_t> loss) const;

 private:
  hdf5::Dataset column(const hdf5::Listing& listing, const std::string& path, int element_size, std::uint64_t count) const;
  std::uint64_t number(const hdf5::Dataset& dataset, std::int64_t index) const;
  void check(const hdf5::Listing& listing, const ShardRecord& record);
  void check_tokens(const std::byte* bytes, std::uint64_t count) const;
  const std::byte* stored_tokens(std::uint64_t begin, std::uint64_t end) const;
  void decode(std::size_t chunk) const;

  MappedFile map_;
  hdf5::Dataset tokens_, offset_, id_hash_, content_hash_, bytes_, loss_first_, loss_span_;
  std::int64_t documents_ = 0;
  std::int32_t vocab_size_ = 0;
  bool has_loss_ = false;
  // Deflated tokens are decoded chunk by chunk when first read, and kept.
  std::unique_ptr<std::byte[]> decoded_;
  mutable std::unique_ptr<std::once_flag[]> chunk_decoded_;
};

}  // namespace graft::data
