// Rows of made-up tokens, for tests of the training loop: a pure function of the cursor, as a real source.
#pragma once

#include "core/rng.h"
#include "data/batch_source.h"

namespace graft::testing {

class FakeBatches final : public data::BatchSource {
 public:
  FakeBatches(std::int64_t rows, std::int64_t length, std::int64_t vocab = 61) : rows_(rows), length_(length), vocab_(vocab) {}
  std::int64_t rows_per_epoch() const override { return rows_; }
  std::int64_t tokens_per_epoch() const override { return rows_ * length_; }
  const std::map<std::string, std::int64_t>& dropped_tokens() const override { return dropped_; }

  mutable std::vector<std::int64_t> consumed;  // rows that were read, in order

  data::Batch read(data::Cursor& cursor, std::int64_t rows) const override {
    data::Batch batch;
    batch.starts = {0};
    for (; rows > 0; --rows) {
      const Permutation order(static_cast<std::uint64_t>(rows_), cursor.seed, static_cast<std::uint64_t>(cursor.epoch));
      consumed.push_back(static_cast<std::int64_t>(order(static_cast<std::uint64_t>(cursor.row))));
      add_row(batch, consumed.back());
      if (++cursor.row == rows_) cursor = {cursor.seed, cursor.epoch + 1, 0};
    }
    return batch;
  }

 private:
  // Rows differ in length, and every third label of an odd row carries no loss, so that micro-batches weigh differently.
  void add_row(data::Batch& batch, std::int64_t row) const {
    const Random random(1, Stream::split, static_cast<std::uint64_t>(row));
    const std::int64_t length = length_ - row % 4;
    for (std::int64_t i = 0; i < length; ++i) {
      const auto token = [&](std::int64_t at) {
        return static_cast<std::int32_t>(random.bits(at) % static_cast<std::uint64_t>(vocab_) / (1 + at % 3));
      };
      batch.tokens.push_back(token(i));
      batch.labels.push_back(i + 1 == length || (row % 2 && i % 3 == 0) ? data::kNoLoss : token(i + 1));
      batch.positions.push_back(static_cast<std::int32_t>(i));
    }
    batch.starts.push_back(static_cast<std::int32_t>(batch.tokens.size()));
    batch.documents.push_back(row);
    ++batch.rows;
  }

  std::int64_t rows_, length_, vocab_;
  std::map<std::string, std::int64_t> dropped_;
};

}  // namespace graft::testing
