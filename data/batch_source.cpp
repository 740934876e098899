#include "data/batch_source.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/corpus.h"
#include "data/packing.h"

namespace graft::data {
namespace {

constexpr std::int64_t kMaxRow = std::int64_t{1} << 24;

// Appends the piece as a segment. Its last label is the document's next token, if it has one, so that splitting a
// document costs no target.
void append_piece(const Corpus& corpus, const Piece& piece, Batch& batch, std::vector<std::uint8_t>& loss) {
  const std::size_t start = batch.tokens.size(), length = static_cast<std::size_t>(piece.length);
  const bool goes_on = piece.begin + piece.length < corpus.document(piece.document).tokens;
  const std::size_t read = length + (goes_on ? 1 : 0);
  loss.resize(read);
  batch.tokens.resize(start + read);
  corpus.read(piece.document, piece.begin, std::span(batch.tokens).subspan(start), loss);
  batch.labels.resize(start + length);
  for (std::size_t i = 0; i + 1 < read; ++i) batch.labels[start + i] = loss[i + 1] ? batch.tokens[start + i + 1] : kNoLoss;
  if (!goes_on) batch.labels.back() = kNoLoss;
  batch.tokens.resize(start + length);
  batch.positions.resize(start + length);
  std::iota(batch.positions.begin() + static_cast<std::ptrdiff_t>(start), batch.positions.end(), 0);
  batch.starts.push_back(static_cast<std::int32_t>(start + length));
  batch.documents.push_back(piece.document);
}

class PackedSource : public BatchSource {
 public:
  // shuffled: rows come in a new order in every epoch, and a batch may reach into the next epoch. Otherwise in their
  // own order, and a batch ends with the epoch.
  PackedSource(const Corpus& corpus, PackedRows rows, bool shuffled)
      : corpus_(corpus), rows_(std::move(rows)), shuffled_(shuffled) {
    if (rows_per_epoch() > 0) return;
    throw DataError(cat("the corpus has ", corpus.tokens(), " tokens in ", corpus.documents(),
                        " documents, and none of them can be trained on: a document needs at least 2 tokens",
                        rows_.dropped.contains("longer than a row") ? ", and must not be longer than a row" : ""));
  }
  std::int64_t rows_per_epoch() const override { return static_cast<std::int64_t>(rows_.starts.size()) - 1; }
  std::int64_t tokens_per_epoch() const override { return rows_.tokens; }
  const std::map<std::string, std::int64_t>& dropped_tokens() const override { return rows_.dropped; }

  Batch read(Cursor& cursor, std::int64_t rows) const override {
    if (cursor.row < 0 || cursor.row >= rows_per_epoch() || cursor.epoch < 0) {
      throw DataError(cat("the cursor stands at row ", cursor.row, " of epoch ", cursor.epoch, ", but an epoch has ",
                          rows_per_epoch(), " rows: it belongs to another corpus or row length"));
    }
    Batch batch;
    batch.starts.push_back(0);
    std::vector<std::uint8_t> loss;
    std::optional<Permutation> order;
    while (batch.rows < rows) {
      if (shuffled_ && !order) order.emplace(rows_per_epoch(), cursor.seed, cursor.epoch);
      const std::size_t at = static_cast<std::size_t>(cursor.row);
      const std::size_t row = order ? static_cast<std::size_t>((*order)(at)) : at;
      for (std::int64_t i = rows_.starts[row]; i < rows_.starts[row + 1]; ++i) {
        append_piece(corpus_, rows_.pieces[static_cast<std::size_t>(i)], batch, loss);
      }
      ++batch.rows;
      if (++cursor.row < rows_per_epoch()) continue;
      cursor.row = 0;
      ++cursor.epoch;
      order.reset();
      if (!shuffled_) break;
    }
    return batch;
  }

 private:
  const Corpus& corpus_;
  const PackedRows rows_;
  const bool shuffled_;
};

void check_length(std::int64_t length) {
  if (length < 2 || length > kMaxRow) throw ConfigError(cat("a row of ", length, " tokens; it must have 2 to ", kMaxRow));
}

}  // namespace

LongDocuments long_documents(const std::string& name) {
  return name == "truncate" ? LongDocuments::truncate : name == "drop" ? LongDocuments::drop : LongDocuments::split;
}

std::int64_t Batch::trained_tokens() const {
  return static_cast<std::int64_t>(labels.size()) - std::ranges::count(labels, kNoLoss);
}

std::unique_ptr<BatchSource> pack(const Corpus& corpus, std::int64_t length, LongDocuments policy) {
  check_length(length);
  CutDocuments cut = cut_documents(corpus, length, policy);
  if (cut.conversations > 0)
    log::warn("pack", cut.conversations, " conversations are longer than a row of ", length,
              " tokens and were split between their turns; ", cut.cut_turns, " of them have a turn that was cut itself");
  PackedRows rows = best_fit(cut.pieces, length);
  rows.dropped = std::move(cut.dropped);
  return std::make_unique<PackedSource>(corpus, std::move(rows), true);
}

std::unique_ptr<BatchSource> in_order(const Corpus& corpus, std::int64_t length) {
  check_length(length);
  PackedRows rows;
  CutDocuments cut = cut_documents(corpus, length, LongDocuments::split);
  rows.pieces = std::move(cut.pieces);
  rows.dropped = std::move(cut.dropped);
  rows.starts.resize(rows.pieces.size() + 1);
  std::iota(rows.starts.begin(), rows.starts.end(), 0);
  for (const Piece& piece : rows.pieces) rows.tokens += piece.length;
  return std::make_unique<PackedSource>(corpus, std::move(rows), false);
}

}  // namespace graft::data
