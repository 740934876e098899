#include "data/packing.h"

#include <algorithm>
#include <bit>

namespace graft::data {
namespace {

// A set of integers in [0, size) with the smallest member >= x in O(log64 size): bitmaps whose bits say which words
// below them are not empty.
class CapacitySet {
 public:
  explicit CapacitySet(std::size_t size) {
    do {
      size = (size + 63) / 64;
      levels_.emplace_back(size, 0);
    } while (size > 1);
  }
  void insert(std::size_t x) {
    for (auto& level : levels_) {
      level[x / 64] |= std::uint64_t{1} << x % 64;
      x /= 64;
    }
  }
  void erase(std::size_t x) {
    for (auto& level : levels_) {
      level[x / 64] &= ~(std::uint64_t{1} << x % 64);
      if (level[x / 64] != 0) return;
      x /= 64;
    }
  }
  // -1 when there is none.
  std::int64_t at_least(std::size_t x) const {
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      if (x / 64 >= levels_[i].size()) return -1;
      const std::uint64_t word = levels_[i][x / 64] >> x % 64;
      if (word != 0) {
        x += static_cast<std::size_t>(std::countr_zero(word));
        while (i-- > 0) x = x * 64 + static_cast<std::size_t>(std::countr_zero(levels_[i][x]));
        return static_cast<std::int64_t>(x);
      }
      x = x / 64 + 1;
    }
    return -1;
  }

 private:
  std::vector<std::vector<std::uint64_t>> levels_;
};

// Indices of the pieces, longest first; equal lengths keep their order.
std::vector<std::int64_t> longest_first(const std::vector<Piece>& pieces, std::int64_t length) {
  std::vector<std::int64_t> next(static_cast<std::size_t>(length) + 2);
  for (const Piece& piece : pieces) ++next[static_cast<std::size_t>(length - piece.length) + 1];
  for (std::size_t i = 1; i < next.size(); ++i) next[i] += next[i - 1];
  std::vector<std::int64_t> order(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    order[static_cast<std::size_t>(next[static_cast<std::size_t>(length - pieces[i].length)]++)] = static_cast<std::int64_t>(i);
  }
  return order;
}

// The largest position in [first, last] where an answer has just ended: loss before it, none on it. 0 when there is none.
std::int64_t last_turn_end(const std::vector<std::uint8_t>& loss, std::int64_t first, std::int64_t last) {
  for (auto at = static_cast<std::size_t>(last); at >= static_cast<std::size_t>(first); --at)
    if (loss[at - 1] && !loss[at]) return static_cast<std::int64_t>(at);
  return 0;
}

}  // namespace

PackedRows best_fit(const std::vector<Piece>& pieces, std::int64_t length) {
  constexpr std::int64_t kNone = -1;
  std::vector<std::int64_t> last_with(static_cast<std::size_t>(length) + 1,
                                      kNone);  // row with that much room, added last
  std::vector<std::int64_t> before;            // (rows) the row with equal room added before this one
  std::vector<std::int64_t> row_of(pieces.size());
  CapacitySet rooms(static_cast<std::size_t>(length) + 1);
  PackedRows out;
  out.starts.push_back(0);
  const std::vector<std::int64_t> order = longest_first(pieces, length);
  for (const std::int64_t index : order) {
    const std::int64_t need = pieces[static_cast<std::size_t>(index)].length;
    const std::int64_t found = rooms.at_least(static_cast<std::size_t>(need));
    std::int64_t row;
    if (found < 0) {
      row = static_cast<std::int64_t>(before.size());
      before.push_back(kNone);
      out.starts.push_back(0);
    } else {
      row = last_with[static_cast<std::size_t>(found)];
      last_with[static_cast<std::size_t>(found)] = before[static_cast<std::size_t>(row)];
      if (last_with[static_cast<std::size_t>(found)] == kNone) rooms.erase(static_cast<std::size_t>(found));
    }
    const std::size_t room = static_cast<std::size_t>((found < 0 ? length : found) - need);
    before[static_cast<std::size_t>(row)] = last_with[room];
    last_with[room] = row;
    rooms.insert(room);
    row_of[static_cast<std::size_t>(index)] = row;
    ++out.starts[static_cast<std::size_t>(row) + 1];
    out.tokens += need;
  }
  for (std::size_t row = 1; row < out.starts.size(); ++row) out.starts[row] += out.starts[row - 1];
  out.pieces.resize(pieces.size());
  std::vector<std::int64_t> next(out.starts.begin(), out.starts.end() - 1);
  for (const std::int64_t index : order) {
    const std::size_t row = static_cast<std::size_t>(row_of[static_cast<std::size_t>(index)]);
    out.pieces[static_cast<std::size_t>(next[row]++)] = pieces[static_cast<std::size_t>(index)];
  }
  return out;
}

CutDocuments cut_documents(const Corpus& corpus, std::int64_t length, LongDocuments policy) {
  CutDocuments out;
  std::vector<Piece>& pieces = out.pieces;
  pieces.reserve(static_cast<std::size_t>(corpus.documents()));
  for (std::int64_t i = 0; i < corpus.documents(); ++i) {
    const std::int64_t tokens = corpus.document(i).tokens;
    if (tokens < 2) {
      if (tokens == 1) ++out.dropped["single token"];
    } else if (tokens <= length) {
      pieces.push_back({i, 0, static_cast<std::int32_t>(tokens)});
    } else if (policy == LongDocuments::drop) {
      out.dropped["longer than a row"] += tokens;
    } else if (policy == LongDocuments::truncate) {
      pieces.push_back({i, 0, static_cast<std::int32_t>(length)});
      out.dropped["truncated"] += tokens - length;
    } else {
      std::vector<std::uint8_t> loss(static_cast<std::size_t>(tokens));
      corpus.read(i, 0, {}, loss);
      const bool conversation = std::ranges::find(loss, 0) != loss.end();
      bool within_turn = false;
      std::int64_t begin = 0;
      for (std::int64_t end = 0; tokens - begin >= 2; begin = end) {
        end = std::min(begin + length, tokens);
        if (const std::int64_t turn = end < tokens ? last_turn_end(loss, begin + 2, end) : end; turn > 0)
          end = turn;
        else
          within_turn = true;
        pieces.push_back({i, begin, static_cast<std::int32_t>(end - begin)});
      }
      if (begin < tokens) out.dropped["last token of a split document"] += tokens - begin;
      out.conversations += conversation;
      out.cut_turns += conversation && within_turn;
    }
  }
  return out;
}

}  // namespace graft::data
