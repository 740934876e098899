// A set of pairs of 64-bit hashes in 16 bytes each, for remembering millions of documents.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace graft::data {

// Open addressing by the first hash. At most kMaxPairs are kept (256 MiB); beyond that insert() keeps nothing.
class SeenPairs {
 public:
  static constexpr std::size_t kMaxPairs = std::size_t{1} << 23;

  // True when the pair is new.
  bool insert(std::uint64_t a, std::uint64_t b) {
    if (contains(a, b)) return false;
    if (size_ == kMaxPairs) {
      ++forgotten_;
      return true;
    }
    if (size_ * 2 >= slots_.size()) grow();
    place(a, b);
    ++size_;
    return true;
  }
  bool contains(std::uint64_t a, std::uint64_t b) const {
    return find(a, [&](const Pair& pair) { return pair.second == b; });
  }
  bool contains_first(std::uint64_t a) const {
    return find(a, [](const Pair&) { return true; });
  }
  std::int64_t forgotten() const { return forgotten_; }  // pairs that did not fit

 private:
  using Pair = std::pair<std::uint64_t, std::uint64_t>;  // (0, 0) marks a free slot; a hash of zeros is taken for (0, 1)

  template <class Match>
  bool find(std::uint64_t a, Match match) const {
    if (slots_.empty()) return false;
    for (std::size_t i = a & (slots_.size() - 1); slots_[i] != Pair{}; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].first == a && match(slots_[i])) return true;
    }
    return false;
  }
  void place(std::uint64_t a, std::uint64_t b) {
    std::size_t i = a & (slots_.size() - 1);
    while (slots_[i] != Pair{}) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {a, a == 0 && b == 0 ? 1 : b};
  }
  void grow() {
    std::vector<Pair> old = std::exchange(slots_, std::vector<Pair>(slots_.empty() ? 1024 : slots_.size() * 2));
    for (const Pair& pair : old) {
      if (pair != Pair{}) place(pair.first, pair.second);
    }
  }

  std::vector<Pair> slots_;
  std::size_t size_ = 0;
  std::int64_t forgotten_ = 0;
};

}  // namespace graft::data
