// Held-out documents with near-duplicates among those trained on, and what the gain is without them: a score on such a document
// counts what was learned by heart.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/engine/stages.h"

namespace graft::cli {

// Of one held-out set, of its documents that were scored.
struct Familiar {
  std::string set;
  std::int64_t documents = 0;           // at least half of whose runs of 13 tokens are trained on (data/overlap.h)
  std::int64_t of = 0;                  // documents scored
  double gain = 0;                      // (bits(base) - bits(adapted)) / bits(base), of all documents
  std::optional<double> gain_new = {};  // of the others; nothing when there are none
  Json json() const;
};

// Of each set whose base and adapted model, which is the one with `adapter`, were scored by document. None, and a word in the
// log, where the documents that it was trained on are not known or not in the corpus.
std::vector<Familiar> familiar_documents(const Session& session, ScoreBook& book, const std::vector<Score>& scores,
                                         const lora::AdapterSet& adapter);
std::string text_of(const std::vector<Familiar>& sets);  // a line each
Json json_of(const std::vector<Familiar>& sets);

}  // namespace graft::cli
