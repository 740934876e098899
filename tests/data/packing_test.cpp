// Packing against the plainest implementation, and the batches that come of it.
#include "data/packing.h"

#include <algorithm>
#include <random>
#include <set>

#include "core/rng.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

// Documents of given lengths in memory: token i of document d is 1000 d + i. Every third has loss on odd tokens alone.
struct Lengths : Corpus {
  std::vector<std::int64_t> lengths;
  std::string name = "lengths";
  explicit Lengths(std::vector<std::int64_t> l) : lengths(std::move(l)) {}
  std::int64_t documents() const override { return static_cast<std::int64_t>(lengths.size()); }
  std::int64_t tokens() const override {
    std::int64_t sum = 0;
    for (const std::int64_t length : lengths) sum += length;
    return sum;
  }
  Document document(std::int64_t i) const override { return {0, 0, lengths[static_cast<std::size_t>(i)]}; }
  static bool carries_loss(std::int64_t document, std::int64_t at) { return document % 3 != 0 || at % 2 == 1; }
  void read(std::int64_t i, std::int64_t begin, std::span<std::int32_t> out, std::span<std::uint8_t> loss) const override {
    REQUIRE(begin + static_cast<std::int64_t>(out.size()) <= lengths[static_cast<std::size_t>(i)]);
    for (std::size_t t = 0; t < out.size(); ++t)
      out[t] = static_cast<std::int32_t>(1000 * i + begin + static_cast<std::int64_t>(t));
    for (std::size_t t = 0; t < loss.size(); ++t) loss[t] = carries_loss(i, begin + static_cast<std::int64_t>(t));
  }
  const std::string& snapshot() const override { return name; }
};

std::vector<std::int64_t> random_lengths(std::size_t count, std::int64_t below, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int64_t> out(count);
  for (auto& length : out)
    length = static_cast<std::int64_t>(random() % 4 == 0 ? random() % static_cast<unsigned>(below) : random() % 60);
  return out;
}

std::int64_t sum(const std::map<std::string, std::int64_t>& counts) {
  std::int64_t out = 0;
  for (const auto& [reason, count] : counts) out += count;
  return out;
}

}  // namespace

TEST_CASE("best fit takes the longest piece and the fullest row that has room", "[packing]") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::int64_t length = seed % 2 ? 100 : 1031;
    std::vector<Piece> pieces;
    for (const std::int64_t n : random_lengths(400, length, seed))
      if (n > 0) pieces.push_back({static_cast<std::int64_t>(pieces.size()), 0, static_cast<std::int32_t>(std::min(n, length))});
    // The plainest: sort, then look at every row.
    std::vector<Piece> sorted = pieces;
    std::stable_sort(sorted.begin(), sorted.end(), [](const Piece& a, const Piece& b) { return a.length > b.length; });
    std::vector<std::int64_t> room;
    for (const Piece& piece : sorted) {
      std::int64_t* best = nullptr;
      for (std::int64_t& row : room)
        if (row >= piece.length && (!best || row < *best)) best = &row;
      if (best)
        *best -= piece.length;
      else
        room.push_back(length - piece.length);
    }
    const PackedRows rows = best_fit(pieces, length);
    REQUIRE(rows.starts.size() == room.size() + 1);
    std::vector<std::int64_t> ours(room.size());
    std::set<std::int64_t> seen;
    std::int64_t tokens = 0;
    for (std::size_t row = 0; row < room.size(); ++row) {
      ours[row] = length;
      for (std::int64_t i = rows.starts[row]; i < rows.starts[row + 1]; ++i) {
        const Piece& piece = rows.pieces[static_cast<std::size_t>(i)];
        ours[row] -= piece.length;
        tokens += piece.length;
        CHECK(seen.insert(piece.document).second);
        CHECK(piece.length == pieces[static_cast<std::size_t>(piece.document)].length);
      }
      CHECK(ours[row] >= 0);
    }
    CHECK(seen.size() == pieces.size());
    CHECK(tokens == rows.tokens);
    std::sort(ours.begin(), ours.end());
    std::sort(room.begin(), room.end());
    CHECK(ours == room);  // the same fill, whichever of equally full rows was taken
  }
}

TEST_CASE("tokens in are tokens packed and tokens dropped, each position once", "[packing]") {
  for (const LongDocuments policy : {LongDocuments::split, LongDocuments::truncate, LongDocuments::drop}) {
    for (const std::int64_t length : {2, 3, 64, 500}) {
      const Lengths corpus(random_lengths(300, 1000, static_cast<unsigned>(length)));
      const auto source = pack(corpus, length, policy);
      CHECK(source->tokens_per_epoch() + sum(source->dropped_tokens()) == corpus.tokens());
      std::set<std::int32_t> seen;
      Cursor cursor{5, 0, 0};
      std::int64_t tokens = 0;
      while (cursor.epoch == 0) {
        const Batch batch = source->read(cursor, 1);
        CHECK(static_cast<std::int64_t>(batch.tokens.size()) <= length);
        tokens += static_cast<std::int64_t>(batch.tokens.size());
        for (const std::int32_t token : batch.tokens) CHECK(seen.insert(token).second);
      }
      CHECK(tokens == source->tokens_per_epoch());
    }
  }
}

TEST_CASE("what is dropped is told by reason", "[packing]") {
  const Lengths corpus({0, 1, 2, 10, 11, 12, 21});
  const auto dropped = [&](LongDocuments policy) { return pack(corpus, 10, policy)->dropped_tokens(); };
  using Counts = std::map<std::string, std::int64_t>;
  CHECK(dropped(LongDocuments::split) == Counts{{"single token", 1}, {"last token of a split document", 2}});
  CHECK(dropped(LongDocuments::truncate) == Counts{{"single token", 1}, {"truncated", 1 + 2 + 11}});
  CHECK(dropped(LongDocuments::drop) == Counts{{"single token", 1}, {"longer than a row", 11 + 12 + 21}});
}

TEST_CASE("a conversation longer than a row is split where an answer ends", "[packing]") {
  // Questions without and answers with loss: 3 + 4, 2 + 3, 6 + 5, 1 + 2, then 30 + 4 and a last question of 3.
  struct Turns : Lengths {
    std::vector<std::uint8_t> carries;
    Turns() : Lengths({}) {
      for (const auto& [question, answer] : {std::pair{3, 4}, {2, 3}, {6, 5}, {1, 2}, {30, 4}, {3, 0}}) {
        carries.insert(carries.end(), static_cast<std::size_t>(question), 0);
        carries.insert(carries.end(), static_cast<std::size_t>(answer), 1);
      }
      lengths = {static_cast<std::int64_t>(carries.size()), 40};  // and a document of plain text
    }
    void read(std::int64_t i, std::int64_t begin, std::span<std::int32_t>, std::span<std::uint8_t> loss) const override {
      for (std::size_t t = 0; t < loss.size(); ++t) loss[t] = i == 1 || carries[static_cast<std::size_t>(begin) + t];
    }
  };
  const auto cut = [](std::int64_t length) {
    const CutDocuments cut = cut_documents(Turns(), length, LongDocuments::split);
    std::vector<std::int64_t> lengths;
    for (const Piece& piece : cut.pieces)
      if (piece.document == 0) lengths.push_back(piece.length);
    return std::tuple(lengths, cut.conversations, cut.cut_turns);
  };
  using Pieces = std::vector<std::int64_t>;
  // 12 tokens end with the second answer, 14 with the fourth, then a turn of 34 that fits just so.
  CHECK(cut(34) == std::tuple(Pieces{26, 34, 3}, 1, 0));
  CHECK(cut(14) == std::tuple(Pieces{12, 14, 14, 14, 9}, 1, 1));
  CHECK(cut(63) == std::tuple(Pieces{63}, 0, 0));
  CHECK(cut(62) == std::tuple(Pieces{60, 3}, 1, 0));
  // Plain text is cut at full rows, and is no conversation.
  const Lengths plain({1, 25});
  const CutDocuments of_plain = cut_documents(plain, 10, LongDocuments::split);
  CHECK(of_plain.conversations == 0);
  REQUIRE(of_plain.pieces.size() == 3);
  CHECK((of_plain.pieces[0].length == 10 && of_plain.pieces[1].length == 10 && of_plain.pieces[2].length == 5));
}

TEST_CASE("labels are the next token of the same document, positions restart", "[batch_source]") {
  const Lengths corpus(random_lengths(200, 400, 3));
  const auto source = pack(corpus, 64, LongDocuments::split);
  Cursor cursor{1, 0, 0};
  std::int64_t targets = 0;
  while (cursor.epoch == 0) {
    const Batch batch = source->read(cursor, std::min<std::int64_t>(3, source->rows_per_epoch() - cursor.row));
    REQUIRE((batch.labels.size() == batch.tokens.size() && batch.positions.size() == batch.tokens.size()));
    REQUIRE((batch.starts.front() == 0 && batch.starts.back() == static_cast<std::int32_t>(batch.tokens.size())));
    REQUIRE(batch.documents.size() + 1 == batch.starts.size());
    for (std::size_t s = 0; s < batch.documents.size(); ++s) {
      const std::int64_t document = batch.documents[s], all = corpus.lengths[static_cast<std::size_t>(document)];
      const std::int64_t first = batch.tokens[static_cast<std::size_t>(batch.starts[s])] - 1000 * document;
      for (std::int32_t t = batch.starts[s]; t < batch.starts[s + 1]; ++t) {
        const std::int64_t at = first + t - batch.starts[s];
        const auto i = static_cast<std::size_t>(t);
        CHECK(batch.tokens[i] == 1000 * document + at);
        CHECK(batch.positions[i] == t - batch.starts[s]);
        // Across a cut too: the last label of a piece is the first token of the next.
        const bool trained = at + 1 < all && Lengths::carries_loss(document, at + 1);
        CHECK(batch.labels[i] == (trained ? 1000 * document + at + 1 : kNoLoss));
      }
    }
    targets += batch.trained_tokens();
  }
  // Splitting costs no target: all tokens but the first of each document that carry loss.
  std::int64_t expected = 0;
  for (std::int64_t d = 0; d < corpus.documents(); ++d)
    for (std::int64_t t = 1; t < corpus.lengths[static_cast<std::size_t>(d)]; ++t) expected += Lengths::carries_loss(d, t);
  CHECK(targets == expected);
}

TEST_CASE("a batch is a function of its cursor", "[batch_source]") {
  const Lengths corpus(random_lengths(300, 300, 9));
  const auto source = pack(corpus, 128, LongDocuments::split), same = pack(corpus, 128, LongDocuments::split);
  const auto equal = [](const Batch& a, const Batch& b) {
    return a.rows == b.rows && a.tokens == b.tokens && a.labels == b.labels && a.positions == b.positions &&
           a.starts == b.starts && a.documents == b.documents;
  };
  const std::int64_t rows = source->rows_per_epoch();
  // Row by row over two epochs is the same as in batches of seven, which reach into the next epoch.
  Cursor one{42, 0, 0}, seven{42, 0, 0};
  std::vector<std::vector<std::int64_t>> order(2);
  while (seven.epoch < 2) {
    const Batch batch = source->read(seven, 7);
    CHECK(batch.rows == 7);
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 7; ++i) {
      const Cursor before = one;
      const Batch row = same->read(one, 1);
      tokens.insert(tokens.end(), row.tokens.begin(), row.tokens.end());
      if (before.epoch < 2) order[static_cast<std::size_t>(before.epoch)].push_back(row.tokens.front());
      Cursor again = before;
      CHECK(equal(source->read(again, 1), row));
      CHECK(again == one);
      CHECK(before.row + before.epoch * rows + 1 == one.row + one.epoch * rows);
    }
    CHECK(tokens == batch.tokens);
    CHECK(one == seven);
  }
  CHECK(order[0] != order[1]);
  for (auto& epoch : order) {
    CHECK(static_cast<std::int64_t>(epoch.size()) == rows);
    std::sort(epoch.begin(), epoch.end());
    CHECK(std::adjacent_find(epoch.begin(), epoch.end()) == epoch.end());  // every row once
  }
  CHECK(order[0] == order[1]);
  Cursor other{43, 0, 0}, first{42, 0, 0};
  CHECK_FALSE(equal(source->read(other, 5), source->read(first, 5)));
  // The order is the one that core/rng.h promises.
  const auto row_of = [&](Cursor cursor) { return source->read(cursor, 1).tokens; };
  const Permutation epoch0(static_cast<std::uint64_t>(rows), 42, 0), epoch1(static_cast<std::uint64_t>(rows), 42, 1);
  for (std::int64_t at = 0; at < rows; ++at)
    for (std::int64_t next = 0; next < rows; ++next)
      if (epoch0(at) == epoch1(next)) CHECK(row_of({42, 0, at}) == row_of({42, 1, next}));
}

TEST_CASE("a cursor or a row length that does not fit is named", "[batch_source]") {
  const Lengths corpus({5, 5, 5});
  const auto source = pack(corpus, 10, LongDocuments::split);
  REQUIRE(source->rows_per_epoch() == 2);
  const auto at = [&](Cursor cursor) { return message_of<DataError>([&] { source->read(cursor, 1); }); };
  CHECK(at({0, 0, 2}) ==
        "the cursor stands at row 2 of epoch 0, but an epoch has 2 rows: it belongs to another corpus or row length");
  CHECK(at({0, -1, 0}).starts_with("the cursor stands at row 0 of epoch -1"));
  CHECK(at({0, 0, -1}).starts_with("the cursor stands at row -1"));
  for (const std::int64_t length : {-1, 0, 1, (1 << 24) + 1})
    CHECK(message_of<ConfigError>([&] { pack(corpus, length, LongDocuments::split); }) ==
          cat("a row of ", length, " tokens; it must have 2 to 16777216"));
  const Lengths singles({1, 1, 0});
  CHECK(message_of<DataError>([&] { pack(singles, 10, LongDocuments::split); }) ==
        "the corpus has 2 tokens in 3 documents, and none of them can be trained on: a document needs at least 2 tokens");
  const Lengths longer({50});
  CHECK(message_of<DataError>([&] { pack(longer, 10, LongDocuments::drop); }).ends_with(", and must not be longer than a row"));
}
