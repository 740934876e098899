// Byte-pair merges over token ids: the merge of lowest rank first, leftmost among equals, until none applies.
//
// A piece of n bytes takes O(n log n) steps whatever it holds; short ones, which text is made of, go through a plain loop.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace graft::data {

inline constexpr std::int32_t kNoToken = -1;

struct Merge {
  std::int32_t left, right, result;  // token ids; the position in the list is the rank
};

class MergeTable {
 public:
  MergeTable() = default;
  explicit MergeTable(const std::vector<Merge>& merges);  // the last of equal pairs counts

  struct Entry {
    std::uint64_t pair = kEmpty;
    std::uint32_t rank = kNone;
    std::int32_t result = kNoToken;
  };
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  std::size_t ranks() const { return ranks_; }
  // The merge of two neighbours; rank kNone when there is none.
  Entry find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t pair = key(left, right);
    for (std::size_t slot = slot_of(pair);; slot = (slot + 1) & mask_)
      if (slots_[slot].pair == pair || slots_[slot].pair == kEmpty) return slots_[slot];
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> shift_ & mask_; }
  std::vector<Entry> slots_ = std::vector<Entry>(2);
  std::size_t mask_ = 1, ranks_ = 0;
  int shift_ = 63;
};

// Working memory of merge(), kept between calls.
struct MergeScratch {
  struct Symbol {
    std::int32_t id;
    std::uint32_t previous, next;
  };
  std::vector<Symbol> symbols;
  std::vector<std::vector<std::uint32_t>> places;  // by rank
  std::vector<std::uint32_t> current, order;       // the places in work; a heap of the ranks that have some
  std::vector<std::uint32_t> ranks;                // of the pairs of a short piece
};

// Replaces `ids` by what is left after all merges. At most 2^32 - 2 ids.
void merge(const MergeTable& table, std::vector<std::int32_t>& ids, MergeScratch& scratch);

}  // namespace graft::data
