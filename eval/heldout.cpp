#include "eval/heldout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/stop.h"

namespace graft::eval {
namespace {

constexpr std::int64_t kSampled = 2048, kMostSampled = 2 * kSampled;  // tokens; the most where max_tokens ends in a long document

// Windows of several documents that go through the decoder together; attention stays within each.
struct Run {
  std::vector<std::int64_t> tokens, labels;
  std::vector<std::int32_t> positions, starts = {0};
  std::vector<std::size_t> owner;  // per trained token: index into the score's documents
};

// All next-token predictions of the document: window w has inputs [wL, wL + L) and the labels one further on, so that every token
// but the first is predicted exactly once.
class Scorer {
 public:
  // every: of that many predicted tokens one goes into the sample; 0: none does.
  Scorer(model::Decoder& decoder, std::int64_t length, std::int64_t every, HeldoutScore& score)
      : decoder_(decoder), length_(length), every_(every), score_(score) {}

  void add_window(const std::int32_t* tokens, const std::uint8_t* loss, std::int64_t inputs, std::size_t document) {
    if (std::none_of(loss + 1, loss + 1 + inputs, [](std::uint8_t carries) { return carries != 0; })) return;
    if (static_cast<std::int64_t>(run_.tokens.size()) + inputs > length_) flush();
    for (std::int64_t i = 0; i < inputs; ++i) {
      run_.tokens.push_back(tokens[i]);
      run_.positions.push_back(static_cast<std::int32_t>(i));
      run_.labels.push_back(loss[i + 1] ? tokens[i + 1] : data::kNoLoss);
      if (loss[i + 1]) run_.owner.push_back(document);
    }
    run_.starts.push_back(static_cast<std::int32_t>(run_.tokens.size()));
  }

  void flush() {
    if (run_.tokens.empty()) return;
    throw_if_stopped();
    const auto n = static_cast<std::int64_t>(run_.tokens.size());
    const at::Tensor labels = at::from_blob(run_.labels.data(), {n}, at::kLong);
    const model::Packed packed{at::from_blob(run_.tokens.data(), {n}, at::kLong),
                               at::from_blob(run_.positions.data(), {n}, at::kInt), run_.starts};
    const model::TokenLoss loss = decoder_.loss(packed, labels, /*want_logprob=*/true);
    const at::Tensor logprob = loss.logprob.contiguous();
    const float* values = logprob.const_data_ptr<float>();
    for (std::size_t i = 0; i < run_.owner.size(); ++i) score_.document_nll[run_.owner[i]] -= values[i];
    if (every_ > 0) keep_some(loss.hidden);
    run_ = {};
  }

  at::Tensor sample() const { return at::cat(kept_); }

 private:
  void keep_some(const at::Tensor& hidden) {
    std::vector<std::int64_t> rows;
    for (std::size_t i = 0; i < run_.labels.size(); ++i)
      if (run_.labels[i] != data::kNoLoss && predicted_++ % every_ == 0 && sampled_ < kMostSampled) {
        rows.push_back(static_cast<std::int64_t>(i));
        ++sampled_;
      }
    kept_.push_back(hidden.index_select(0, at::tensor(rows, at::kLong)));
  }

  model::Decoder& decoder_;
  const std::int64_t length_, every_;
  HeldoutScore& score_;
  std::vector<at::Tensor> kept_;  // (rows, H) each
  std::int64_t predicted_ = 0, sampled_ = 0;
  Run run_;
};

// Of the document's text, in its first token. A control token is no text, nor is the scaffolding of a conversation, which carries
// no loss.
std::uint64_t unpredicted_bytes(const data::Document& document, const data::Tokenizer& tokenizer,
                                const std::vector<std::int32_t>& tokens, const std::vector<std::uint8_t>& loss) {
  return loss.front() ? std::min<std::uint64_t>(document.bytes, tokenizer.decode(std::span(tokens).first(1)).size()) : 0;
}

}  // namespace

double HeldoutScore::bits_per_byte() const { return nll / std::numbers::ln2 / static_cast<double>(bytes); }
double HeldoutScore::perplexity() const { return std::exp(nll / static_cast<double>(tokens)); }

Json HeldoutScore::json() const {
  return {{"set", set},
          {"bits_per_byte", bits_per_byte()},
          {"perplexity", perplexity()},
          {"nll", nll},
          {"tokens", tokens},
          {"documents", documents},
          {"bytes", bytes}};
}

HeldoutScore heldout(model::Decoder& decoder, const data::Corpus& corpus, const data::Tokenizer& tokenizer,
                     const std::string& set, std::int64_t length, std::int64_t max_tokens, Predictions* sample) {
  if (length < 1) throw ConfigError(cat("the evaluation window is ", length, " tokens; it must be at least 1"));
  HeldoutScore score;
  score.set = set;
  const std::int64_t tokens_at_most = max_tokens == 0 ? corpus.tokens() : std::min(corpus.tokens(), max_tokens);
  Scorer scorer(decoder, length, sample == nullptr ? 0 : std::max<std::int64_t>(1, tokens_at_most / kSampled), score);
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> loss;
  for (std::int64_t d = 0; d < corpus.documents() && (max_tokens == 0 || score.tokens < max_tokens); ++d) {
    const data::Document document = corpus.document(d);
    const std::size_t slot = score.document_nll.size();
    std::int64_t predicted = 0;
    for (std::int64_t begin = 0; begin + 1 < document.tokens; begin += length) {
      const std::int64_t inputs = std::min(length, document.tokens - 1 - begin);
      tokens.resize(static_cast<std::size_t>(inputs) + 1);
      loss.resize(tokens.size());
      corpus.read(d, begin, tokens, loss);
      predicted += std::count_if(loss.begin() + 1, loss.end(), [](std::uint8_t carries) { return carries != 0; });
      if (score.document_nll.size() == slot) {  // the document counts from its first window on
        score.document_nll.push_back(0);
        score.document_index.push_back(d);
        score.document_bytes.push_back(
            static_cast<std::int64_t>(document.bytes - unpredicted_bytes(document, tokenizer, tokens, loss)));
      }
      scorer.add_window(tokens.data(), loss.data(), inputs, slot);
    }
    if (predicted == 0 && score.document_nll.size() > slot) {  // nothing to predict: its bytes would dilute the score
      score.document_nll.pop_back();
      score.document_index.pop_back();
      score.document_bytes.pop_back();
      continue;
    }
    score.tokens += predicted;
  }
  scorer.flush();
  if (score.tokens == 0)
    throw DataError(cat("the evaluation set '", set, "' has no token to predict in ", corpus.documents(),
                        " documents; add documents to it or choose another set"));
  score.documents = static_cast<std::int64_t>(score.document_nll.size());
  for (std::size_t i = 0; i < score.document_nll.size(); ++i) {
    score.nll += score.document_nll[i];
    score.bytes += score.document_bytes[i];
  }
  if (sample != nullptr) *sample = predictions_of(decoder, scorer.sample());
  return score;
}

}  // namespace graft::eval
