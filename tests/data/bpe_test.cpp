// Merges against the definition, on tables and texts where ties, overlaps and merges out of order are the rule.
#include "data/bpe.h"

#include <random>

#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

// The definition: the pair of lowest rank, leftmost among equals, again and again.
std::vector<std::int32_t> merged(const std::vector<Merge>& merges, std::vector<std::int32_t> ids) {
  while (true) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i)
      for (std::size_t rank = 0; rank < best; ++rank)
        if (merges[rank].left == ids[i] && merges[rank].right == ids[i + 1]) best = rank, at = i;
    if (best == merges.size()) return ids;
    ids[at] = merges[best].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

TEST_CASE("merges are those of the definition, for short and long pieces", "[bpe]") {
  std::mt19937 random(1);
  MergeScratch scratch;
  for (int round = 0; round < 400; ++round) {
    // Tokens are strings over two or three letters; a merge joins two tokens that there are. In half of the rounds the order of
    // the list is shuffled, so that a merge can make one of lower rank possible.
    const int letters = 2 + round % 2;
    std::vector<std::string> tokens;
    for (int i = 0; i < letters; ++i) tokens.push_back(std::string(1, static_cast<char>('a' + i)));
    std::vector<Merge> merges;
    for (int tries = 0; tries < 30; ++tries) {
      const auto l = random() % tokens.size(), r = random() % tokens.size();
      const std::string joined = tokens[l] + tokens[r];
      if (joined.size() > 12) continue;
      auto found = std::find(tokens.begin(), tokens.end(), joined);
      if (found == tokens.end()) found = tokens.insert(tokens.end(), joined);
      const Merge merge{static_cast<std::int32_t>(l), static_cast<std::int32_t>(r),
                        static_cast<std::int32_t>(found - tokens.begin())};
      const bool known = std::any_of(merges.begin(), merges.end(),
                                     [&](const Merge& m) { return m.left == merge.left && m.right == merge.right; });
      if (!known) merges.push_back(merge);
    }
    if (round % 4 > 1) std::shuffle(merges.begin(), merges.end(), random);
    const MergeTable table(merges);
    for (const std::size_t size : {0, 1, 2, 7, 48, 49, 50, 200}) {
      std::vector<std::int32_t> ids(size);
      for (auto& id : ids) id = static_cast<std::int32_t>(random() % (size % 2 ? 1 : static_cast<unsigned>(letters)));
      const auto expected = merged(merges, ids);
      merge(table, ids, scratch);
      CHECK(ids == expected);
    }
  }
}

TEST_CASE("the last of equal pairs counts", "[bpe]") {
  const MergeTable table({{0, 1, 2}, {1, 1, 3}, {0, 1, 4}});
  CHECK((table.find(0, 1).rank == 2 && table.find(0, 1).result == 4));
  CHECK(table.find(1, 0).rank == MergeTable::kNone);
  CHECK(MergeTable().find(0, 0).rank == MergeTable::kNone);
}
