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
  PackedSource(const Corpus& corpus, PackedRows rows) : corpus_(corpus), rows_(std::move(rows)) {
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
      if (!order) order.emplace(rows_per_epoch(), cursor.seed, cursor.epoch);
      const auto row = static_cast<std::size_t>((*order)(static_cast<std::size_t>(cursor.row)));
      for (std::int64_t i = rows_.starts[row]; i < rows_.starts[row + 1]; ++i) {
        append_piece(corpus_, rows_.pieces[static_cast<std::size_t>(i)], batch, loss);
      }
      ++batch.rows;
      if (++cursor.row < rows_per_epoch()) continue;
      cursor.row = 0;
      ++cursor.epoch;
      order.reset();
    }
    return batch;
  }

 private:
  const Corpus& corpus_;
  const PackedRows rows_;
};

}  // namespace

LongDocuments long_documents(const std::string& name) {
  return name == "truncate" ? LongDocuments::truncate : name == "drop" ? LongDocuments::drop : LongDocuments::split;
}

std::int64_t Batch::trained_tokens() const {
  return static_cast<std::int64_t>(labels.size()) - std::ranges::count(labels, kNoLoss);
}

std::unique_ptr<BatchSource> pack(const Corpus& corpus, std::int64_t length, LongDocuments policy) {
  if (length < 2 || length > kMaxRow) throw ConfigError(cat("a row of ", length, " tokens; it must have 2 to ", kMaxRow));
  CutDocuments cut = cut_documents(corpus, length, policy);
  if (cut.conversations > 0)
    log::warn("pack", cut.conversations, " conversations are longer than a row of ", length,
              " tokens and were split between their turns; ", cut.cut_turns, " of them have a turn that was cut itself");
  PackedRows rows = best_fit(cut.pieces, length);
  rows.dropped = std::move(cut.dropped);
  return std::make_unique<PackedSource>(corpus, std::move(rows));
}

}  // namespace graft::data
