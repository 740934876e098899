#include "data/bpe.h"

#include <algorithm>
#include <functional>

namespace graft::data {
namespace {

constexpr std::size_t kShort = 48;  // up to here the plain loop is the faster one
constexpr std::uint32_t kEnd = 0xFFFFFFFF;

void merge_short(const MergeTable& table, std::vector<std::int32_t>& ids, std::vector<std::uint32_t>& ranks) {
  const auto rank_at = [&](std::size_t i) {
    return i + 1 < ids.size() ? table.find(ids[i], ids[i + 1]).rank : MergeTable::kNone;
  };
  ranks.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ranks[i] = rank_at(i);
  while (true) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (best == ranks.end() || *best == MergeTable::kNone) return;
    const auto i = static_cast<std::size_t>(best - ranks.begin());
    ids[i] = table.find(ids[i], ids[i + 1]).result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    ranks.erase(best + 1);
    ranks[i] = rank_at(i);
    if (i > 0) ranks[i - 1] = rank_at(i - 1);
  }
}

// A linked list of symbols and a heap of candidate merges; a candidate whose pair has changed since is dropped when it
// comes up.
void merge_long(const MergeTable& table, std::vector<std::int32_t>& ids, MergeScratch& scratch) {
  const auto n = static_cast<std::uint32_t>(ids.size());
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.resize(n);
  heap.clear();
  for (std::uint32_t i = 0; i < n; ++i) symbols[i] = {ids[i], i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
  const auto find = [&](std::uint32_t i) { return table.find(symbols[i].id, symbols[symbols[i].next].id); };
  const auto candidate = [](std::uint32_t rank, std::uint32_t i) { return static_cast<std::uint64_t>(rank) << 32 | i; };
  for (std::uint32_t i = 0; i + 1 < n; ++i)
    if (const auto entry = find(i); entry.rank != MergeTable::kNone) heap.push_back(candidate(entry.rank, i));
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto offer = [&](std::uint32_t i) {
    if (symbols[i].next == kEnd) return;
    const auto entry = find(i);
    if (entry.rank == MergeTable::kNone) return;
    heap.push_back(candidate(entry.rank, i));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    const auto i = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    if (symbols[i].id == kNoToken || symbols[i].next == kEnd) continue;
    const auto entry = find(i);
    if (entry.rank != rank) continue;
    const std::uint32_t right = symbols[i].next;
    symbols[i].id = entry.result;
    symbols[i].next = symbols[right].next;
    if (symbols[right].next != kEnd) symbols[symbols[right].next].previous = i;
    symbols[right].id = kNoToken;
    offer(i);
    if (symbols[i].previous != kEnd) offer(symbols[i].previous);
  }
  ids.clear();
  for (const auto& symbol : symbols)
    if (symbol.id != kNoToken) ids.push_back(symbol.id);
}

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges) {
  int bits = 1;
  while ((std::size_t{1} << bits) < merges.size() * 2 + 2) ++bits;
  slots_.assign(std::size_t{1} << bits, Entry{});
  mask_ = slots_.size() - 1;
  shift_ = 64 - bits;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = key(merges[rank].left, merges[rank].right);
    std::size_t slot = slot_of(pair);
    while (slots_[slot].pair != pair && slots_[slot].pair != kEmpty) slot = (slot + 1) & mask_;
    slots_[slot] = {pair, static_cast<std::uint32_t>(rank), merges[rank].result};
  }
}

void merge(const MergeTable& table, std::vector<std::int32_t>& ids, MergeScratch& scratch) {
  if (ids.size() <= kShort)
    merge_short(table, ids, scratch.ranks);
  else
    merge_long(table, ids, scratch);
}

}  // namespace graft::data
