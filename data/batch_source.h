// Packed rows of token ids, addressed by a Cursor. Reading is a pure function of the cursor: the same cursor gives the same rows
// on any machine with any number of threads, so the resume state of a run is three integers.
//
// Documents are packed into rows of `length` tokens by best fit (decreasing); a document longer than a row is handled by the
// LongDocuments policy. Tokens that are dropped are counted by reason: tokens in = tokens packed + tokens dropped.
// The rows of an epoch come in the order of core/rng.h's Permutation(rows, seed, epoch). After the last row the next epoch
// begins.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace graft::data {

inline constexpr std::int32_t kNoLoss = -100;  // label of a position that carries no loss (PyTorch's ignore_index)

struct Cursor {
  std::uint64_t seed = 0;  // fixes the order of every epoch
  std::int64_t epoch = 0;  // completed passes
  std::int64_t row = 0;    // rows already taken in this epoch
  friend bool operator==(const Cursor&, const Cursor&) = default;
};

// Rows are stored back to back and unpadded: a batch is one run of T tokens cut into segments (documents or parts of them).
// Attention never crosses a segment; position ids restart in each.
struct Batch {
  std::int64_t rows = 0;
  std::vector<std::int32_t> tokens;     // (T)
  std::vector<std::int32_t> labels;     // (T) the next token of the same document, or kNoLoss; a segment that is cut off has its
                                        //     successor's first token as last label, so that splitting costs no target
  std::vector<std::int32_t> positions;  // (T) 0, 1, ... within each segment
  std::vector<std::int32_t> starts;     // (segments + 1) ascending, starts[0] = 0, last = T
  std::vector<std::int64_t> documents;  // (segments) index of the document in the corpus snapshot
  std::int64_t trained_tokens() const;  // labels that are not kNoLoss
};

enum class LongDocuments { split, truncate, drop };
LongDocuments long_documents(const std::string& name);  // of the config's train.long_documents

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual std::int64_t rows_per_epoch() const = 0;
  virtual std::int64_t tokens_per_epoch() const = 0;
  // Reads `rows` rows, which may reach into the next epoch, and advances the cursor past them. DataError for a cursor beyond the
  // end of its epoch.
  virtual Batch read(Cursor& cursor, std::int64_t rows) const = 0;
  virtual const std::map<std::string, std::int64_t>& dropped_tokens() const = 0;  // by reason
};

}  // namespace graft::data
