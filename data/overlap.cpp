#include "data/overlap.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "core/error.h"
#include "core/stop.h"
#include "data/seen.h"

namespace graft::data {
namespace {

constexpr std::uint64_t kBase = 0x9E3779B97F4A7C15;  // odd, of the rolling polynomial mod 2^64

constexpr std::uint64_t power(std::uint64_t base, std::int64_t exponent) {
  return exponent == 0 ? 1 : base * power(base, exponent - 1);
}

// The polynomial's low bits know little of tokens far back; splitmix64's finalizer spreads them.
std::uint64_t mixed(std::uint64_t hash) {
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EB;
  return hash ^ (hash >> 31);
}

class Reader {
 public:
  explicit Reader(const Corpus& corpus) : corpus_(corpus) {}

  // see(hash) for each run of the document.
  template <class See>
  void runs(std::int64_t document, See see) {
    throw_if_stopped();
    tokens_.resize(static_cast<std::size_t>(corpus_.document(document).tokens));
    loss_.resize(tokens_.size());
    corpus_.read(document, 0, tokens_, loss_);
    constexpr std::uint64_t leaving = power(kBase, kOverlapRun);
    std::uint64_t hash = 0;
    std::int64_t length = 0;  // tokens in `hash`
    const auto end_stretch = [&] {
      if (length > 0 && length < kOverlapRun) see(mixed(hash));
      hash = 0, length = 0;
    };
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (loss_[i] == 0) {
        end_stretch();
        continue;
      }
      hash = hash * kBase + value(i);
      if (length == kOverlapRun)
        hash -= leaving * value(i - kOverlapRun);
      else
        ++length;
      if (length == kOverlapRun) see(mixed(hash));
    }
    end_stretch();
  }

 private:
  std::uint64_t value(std::size_t i) const { return static_cast<std::uint64_t>(tokens_[i]) + 1; }

  const Corpus& corpus_;
  std::vector<std::int32_t> tokens_;
  std::vector<std::uint8_t> loss_;
};

// The smallest hashes of the document's runs.
std::set<std::uint64_t> sample(Reader& reader, std::int64_t document) {
  std::set<std::uint64_t> kept;
  reader.runs(document, [&](std::uint64_t hash) {
    if (kept.size() == kOverlapSample && hash >= *kept.rbegin()) return;
    kept.insert(hash);
    if (kept.size() > kOverlapSample) kept.erase(std::prev(kept.end()));
  });
  return kept;
}

}  // namespace

std::vector<double> overlap(const Corpus& heldout, std::span<const std::int64_t> documents, const Corpus& training) {
  Reader asked(heldout), trained(training);
  std::vector<std::set<std::uint64_t>> samples;
  SeenPairs wanted, found;
  for (const std::int64_t document : documents) {
    if (document < 0 || document >= heldout.documents())
      throw DataError(cat("document ", document, " is not among the ", heldout.documents(), " of the held-out set"));
    samples.push_back(sample(asked, document));
    for (const std::uint64_t hash : samples.back()) wanted.insert(hash, 1);
  }
  for (std::int64_t d = 0; d < training.documents(); ++d)
    trained.runs(d, [&](std::uint64_t hash) {
      if (wanted.contains_first(hash)) found.insert(hash, 1);
    });
  std::vector<double> shares;
  for (const auto& runs : samples) {
    const auto known = std::ranges::count_if(runs, [&](std::uint64_t hash) { return found.contains_first(hash); });
    shares.push_back(runs.empty() ? 0 : static_cast<double>(known) / static_cast<double>(runs.size()));
  }
  return shares;
}

}  // namespace graft::data
