// Held-out scores and answers of one run, kept in run_dir/scores.json together with what they were computed for, so that nothing
// is computed twice and nothing stale is shown:
//
//   {"scores": [{"key": "<sha256>", "model", "set", "bits_per_byte", "perplexity", "nll", "tokens", "documents", "bytes",
//                "document_nll": [nats], "document_index": [number in the set], "kl", "kl_tokens", "kl_to": "<key>"}],
//    "answers": [{"key": "<sha256>", "text"}],
//    "overlaps": [{"key": "<sha256>", "set", "shares": [data/overlap.h, of each document scored]}]}
//
// "model" is for people. A key is the sha256 of everything that decides the value: model and adapter, corpus snapshot, window,
// limit, dtypes, program. The last three are there for what was compared with the merged model, whose key "kl_to" is. The file
// is a cache: damaged or missing, it is made anew.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/engine/session.h"
#include "core/json.h"
#include "data/corpus.h"
#include "eval/heldout.h"

namespace graft::cli {

struct Score {
  std::string model, set;  // "base", "adapted", "merged", an export format, "base in <format>" or a path
  double bits_per_byte = 0, perplexity = 0, nll = 0;
  std::int64_t tokens = 0, documents = 0, bytes = 0;
  std::optional<double> kl = {};                  // nats: of the merged model's predictions to these; eval/divergence.h
  std::int64_t kl_tokens = 0;                     // over which that is the mean
  std::vector<double> document_nll = {};          // nats of each document that has something to predict
  std::vector<std::int64_t> document_index = {};  // of these, in the set
  Json json() const;
};

// Score::model of the base alone in an export format.
inline std::string base_in(const std::string& format) { return "base in " + format; }
inline bool is_base_in(const Score& score) { return score.model.starts_with("base in "); }
const Score* find_score(const std::vector<Score>& scores, const std::string& model, const std::string& set);  // null: none

using PredictionsBySet = std::map<std::string, eval::Predictions>;

// What predictions are compared with.
struct Comparison {
  std::string identity;                                  // of that model; scored with the same Dtypes
  std::function<const PredictionsBySet&()> predictions;  // called when a figure is missing, before the other decoder is loaded
};

class ScoreBook {
 public:
  explicit ScoreBook(const Session& session);

  // Names of the corpus' held-out sets; empty when nothing was held out.
  std::vector<std::string> sets() const;
  // On every held-out set. `identity` stands for weights and adapter; `decoder` is called when a score is missing.
  std::vector<Score> scores(const std::string& model, const std::string& identity, Dtypes dtypes,
                            const std::function<model::Decoder&()>& decoder, const Comparison* comparison = nullptr);
  bool has_scores(const std::string& identity, Dtypes dtypes) const;
  // Scores the model, whether or not that was done before, and keeps a sample of its predictions for each set.
  PredictionsBySet predictions(const std::string& model, const std::string& identity, Dtypes dtypes, model::Decoder& decoder);
  // Takes over what training has just computed for `identity`, where the set still is what the run began with (`pinned`:
  // snapshots by set); documents may have come since.
  void remember(const std::string& model, const std::string& identity, Dtypes dtypes,
                const std::vector<eval::HeldoutScore>& scores, const std::map<std::string, std::string>& pinned);
  // data::overlap of documents of the set with those of a snapshot of the training split.
  std::vector<double> overlaps(const std::string& set, const std::vector<std::int64_t>& documents, const std::string& training);
  // The greedy answer to `prompt`, in the chat template where the model has one.
  std::string answer(const std::string& prompt, const std::string& identity, Dtypes dtypes,
                     const std::function<model::Decoder&()>& decoder);

 private:
  std::string key(const std::string& identity, Dtypes dtypes, const std::string& what) const;
  std::string heldout_key(const std::string& identity, Dtypes dtypes, const std::string& set) const;
  eval::HeldoutScore score(const std::string& model, const std::string& set, model::Decoder& decoder,
                           eval::Predictions* sample) const;
  void record(const std::string& key, const std::string& model, const eval::HeldoutScore& score);
  void save() const;

  const Session& session_;
  std::map<std::string, std::string> snapshots_;  // set -> snapshot
  std::map<std::string, Json> scores_;            // by key
  std::map<std::string, std::string> answers_;    // by key
  std::map<std::string, Json> overlaps_;          // by key
};

// What stands for base + adapter in a ScoreBook: weights, config and the adapter, which may be null.
std::string identity_of(const model::WeightSource& weights, const lora::AdapterSet* adapter);

}  // namespace graft::cli
