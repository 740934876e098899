#include "data/bpe.h"

#include <algorithm>
#include <functional>

namespace graft::data {
namespace {

constexpr std::size_t kShort = 48;  // up to here the plain loop is the faster one
constexpr std::uint32_t kEnd = 0xFFFFFFFF;
constexpr std::uint32_t kKept = 1 << 20;  // working memory of a longer piece is given back

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

// A linked list of symbols, and per rank the places where its pair was seen. A rank's places are merged from left to right in one
// go: what a merge makes is longer than its parts, so that no new place of the same rank comes up. A place whose pair has changed
// since is passed over.
void merge_long(const MergeTable& table, std::vector<std::int32_t>& ids, MergeScratch& scratch) {
  const auto n = static_cast<std::uint32_t>(ids.size());
  std::vector<MergeScratch::Symbol>& symbols = scratch.symbols;
  std::vector<std::uint32_t>&current = scratch.current, &order = scratch.order;
  auto& places = scratch.places;
  symbols.resize(n);
  places.resize(table.ranks());
  for (std::uint32_t i = 0; i < n; ++i) symbols[i] = {ids[i], i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
  const auto find = [&](std::uint32_t i) { return table.find(symbols[i].id, symbols[symbols[i].next].id); };
  const auto offer = [&](std::uint32_t rank, std::uint32_t i) {
    if (places[rank].empty()) {
      order.push_back(rank);
      std::push_heap(order.begin(), order.end(), std::greater<>());
    }
    places[rank].push_back(i);
  };
  const auto look_at = [&](std::uint32_t i) {
    if (symbols[i].next == kEnd) return;
    if (const auto entry = find(i); entry.rank != MergeTable::kNone) offer(entry.rank, i);
  };
  for (std::uint32_t i = 0; i < n; ++i) look_at(i);
  while (!order.empty()) {
    std::pop_heap(order.begin(), order.end(), std::greater<>());
    const std::uint32_t rank = order.back();
    order.pop_back();
    current.swap(places[rank]);
    if (!std::is_sorted(current.begin(), current.end())) std::sort(current.begin(), current.end());
    for (auto place = current.begin(); place != current.end(); ++place) {
      if (!order.empty() && order.front() < rank) {  // a merge that a later one in the list makes possible comes first
        std::for_each(place, current.end(), [&](std::uint32_t i) { offer(rank, i); });
        break;
      }
      const std::uint32_t i = *place;
      if (symbols[i].id == kNoToken || symbols[i].next == kEnd) continue;
      const auto entry = find(i);
      if (entry.rank != rank) continue;
      const std::uint32_t right = symbols[i].next;
      symbols[i].id = entry.result;
      symbols[i].next = symbols[right].next;
      if (symbols[right].next != kEnd) symbols[symbols[right].next].previous = i;
      symbols[right].id = kNoToken;
      look_at(i);
      if (symbols[i].previous != kEnd) look_at(symbols[i].previous);
    }
    current.clear();
  }
  ids.clear();
  for (const auto& symbol : symbols)
    if (symbol.id != kNoToken) ids.push_back(symbol.id);
  if (n > kKept) scratch = {};
}

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges) {
  int bits = 1;
  while ((std::size_t{1} << bits) < merges.size() * 2 + 2) ++bits;
  slots_.assign(std::size_t{1} << bits, Entry{});
  mask_ = slots_.size() - 1;
  shift_ = 64 - bits;
  ranks_ = merges.size();
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
