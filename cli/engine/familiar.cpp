#include "cli/engine/familiar.h"

#include <algorithm>

#include "cli/engine/output.h"
#include "core/error.h"
#include "core/log.h"
#include "data/corpus.h"

namespace graft::cli {
namespace {

constexpr double kFamiliar = 0.5;  // overlap from which a document counts as one that is known

// bits(base) and bits(adapted) differ from nats by one factor.
struct Sums {
  double base = 0, adapted = 0;
  double gain() const { return (base - adapted) / base; }
};

bool same_documents(const Score& base, const Score& adapted) {
  return !base.document_index.empty() && base.document_nll.size() == base.document_index.size() &&
         adapted.document_nll.size() == base.document_nll.size();
}

Familiar familiar_in(const Score& base, const Score& adapted, const std::vector<double>& overlaps) {
  Familiar found{.set = base.set, .of = static_cast<std::int64_t>(overlaps.size())};
  Sums all, others;
  for (std::size_t i = 0; i < overlaps.size(); ++i) {
    const bool familiar = overlaps[i] >= kFamiliar;
    found.documents += familiar;
    for (Sums* sums : {&all, familiar ? nullptr : &others})
      if (sums != nullptr) {
        sums->base += base.document_nll[i];
        sums->adapted += adapted.document_nll[i];
      }
  }
  found.gain = all.gain();
  if (found.documents < found.of) found.gain_new = others.gain();
  return found;
}

}  // namespace

Json Familiar::json() const {
  return {{"set", set},
          {"documents", of},
          {"familiar_documents", documents},
          {"gain", gain},
          {"gain_without_familiar", gain_new ? Json(*gain_new) : Json()}};
}

std::vector<Familiar> familiar_documents(const Session& session, ScoreBook& book, const std::vector<Score>& scores,
                                         const lora::AdapterSet& adapter) {
  const std::string training = origin_of(session, adapter).corpus, &corpus = session.config.corpus.dir;
  if (training.empty() || data::shards_of(data::read_manifest(corpus), "train", training).empty()) {
    log::info("eval", corpus, " is not known to hold what the adapter was trained on: no near-duplicates were looked for");
    return {};
  }
  std::vector<Familiar> sets;
  for (const std::string& set : book.sets()) {
    const Score *const base = find_score(scores, "base", set), *const adapted = find_score(scores, "adapted", set);
    if (base == nullptr || adapted == nullptr || !same_documents(*base, *adapted)) continue;
    try {
      sets.push_back(familiar_in(*base, *adapted, book.overlaps(set, base->document_index, training)));
    } catch (const UserError& error) {  // of a shard that scoring does not need
      log::warn("eval", "no near-duplicates were looked for: ", error.what());
    }
  }
  return sets;
}

std::string text_of(const std::vector<Familiar>& sets) {
  std::string out;
  for (const Familiar& set : sets) {
    out += cat(set.set, ": ", set.documents, " of ", set.of, " documents stand by half or more in documents trained on");
    if (set.documents > 0)
      out += set.gain_new ? cat("; on the others the adapter saves ", fixed(100 * *set.gain_new, 1), " % of the base's bits (",
                                fixed(100 * set.gain, 1), " % on all)")
                          : std::string("; the gain on them is no measure of new text");
    out += "\n";
  }
  return out;
}

Json json_of(const std::vector<Familiar>& sets) {
  Json list = Json::array();
  for (const Familiar& set : sets) list.push_back(set.json());
  return list;
}

}  // namespace graft::cli
