// A set of pairs of 64-bit hashes, for remembering millions of documents: 32 to 64 bytes a pair.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace graft::data {

// Open addressing by the first hash, at most half full.
class SeenPairs {
 public:
  // True when the pair is new.
  bool insert(std::uint64_t a, std::uint64_t b) {
    if (contains(a, b)) return false;
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
};

}  // namespace graft::data
