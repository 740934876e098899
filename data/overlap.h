// How much of a held-out document stands word for word in documents that are trained on. Near-duplicates (two editions of one
// page) are two documents to the split, and a score on the one counts what was learned by heart from the other.
//
//   overlap = different runs of 13 tokens of the document that occur in a document trained on / its different runs of 13 tokens
//
// Runs of 13 are those of the decontamination of Brown et al. 2020, appendix C. They count where all their tokens carry loss: of
// conversations the assistant's words, not a system text that all of them begin with. A stretch with loss that is shorter is one
// run.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/corpus.h"

namespace graft::data {

inline constexpr std::int64_t kOverlapRun = 13;    // tokens
inline constexpr std::size_t kOverlapSample = 64;  // runs looked up of a document that has more: a share within 0.06 (one sigma)

// One for each of `documents`, indices in the held-out corpus; 0 where no token carries loss. The runs that are looked up have
// the document's smallest hashes. Reads the training documents once; memory: some 100 bytes for each run looked up. DataError for
// a document that is not in the corpus.
std::vector<double> overlap(const Corpus& heldout, std::span<const std::int64_t> documents, const Corpus& training);

}  // namespace graft::data
