// Held-out loss of a decoder on a corpus split.
//
//   nll = sum over predicted tokens of -ln p(token);  perplexity = exp(nll / tokens);  bits per byte = nll / ln 2 / bytes
// where bytes are those of the cleaned text of the evaluated documents, less what their first token stands for where no control
// token comes before it, since nothing predicts it: comparable across tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "eval/divergence.h"
#include "model/decoder.h"

namespace graft::eval {

struct HeldoutScore {
  std::string set;
  double nll = 0;  // nats, summed
  std::int64_t tokens = 0, documents = 0, bytes = 0;
  std::vector<double> document_nll;  // per document that has something to predict, for paired statistics
  std::vector<std::int64_t> document_bytes;
  std::vector<std::int64_t> document_index;  // in the corpus
  double bits_per_byte() const;
  double perplexity() const;
  Json json() const;
};

// Documents in order, cut into windows of `length`; stops after max_tokens (0: all), always at a document's end, so that bytes
// and tokens match. tokenizer: the one that made the corpus. sample: filled with what the decoder predicts for some of the
// tokens, spread over all of them and the same for every decoder.
HeldoutScore heldout(model::Decoder& decoder, const data::Corpus& corpus, const data::Tokenizer& tokenizer,
                     const std::string& set, std::int64_t length, std::int64_t max_tokens, Predictions* sample = nullptr);

}  // namespace graft::eval
