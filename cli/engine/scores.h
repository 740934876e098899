// Held-out scores and answers of one run, kept in run_dir/scores.json together with what they were computed for, so that nothing
// is computed twice and nothing stale is shown:
//
//   {"scores": [{"key": "<sha256>", "model", "set", "bits_per_byte", "perplexity", "nll", "tokens", "documents", "bytes"}],
//    "answers": [{"key": "<sha256>", "text"}]}
//
// "model" is for people. A key is the sha256 of everything that decides the value: model and adapter, corpus snapshot, window,
// limit, dtypes, program. The file is a cache: damaged or missing, it is made anew.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/engine/session.h"
#include "core/json.h"
#include "data/corpus.h"
#include "eval/heldout.h"

namespace graft::cli {

struct Score {
  std::string model, set;  // "base", "adapted", an export format or a path
  double bits_per_byte = 0, perplexity = 0, nll = 0;
  std::int64_t tokens = 0, documents = 0, bytes = 0;
  Json json() const;
};

class ScoreBook {
 public:
  explicit ScoreBook(const Session& session);

  // Names of the corpus' held-out sets; empty when nothing was held out.
  std::vector<std::string> sets() const;
  // On every held-out set. `identity` stands for weights and adapter; `decoder` is called when a score is missing.
  std::vector<Score> scores(const std::string& model, const std::string& identity, Dtypes dtypes,
                            const std::function<model::Decoder&()>& decoder);
  // Takes over what training has just computed for `identity` on the snapshot `set` has now.
  void remember(const std::string& model, const std::string& identity, Dtypes dtypes,
                const std::vector<eval::HeldoutScore>& scores);
  // The greedy answer to `prompt`, in the chat template where the model has one.
  std::string answer(const std::string& prompt, const std::string& identity, Dtypes dtypes,
                     const std::function<model::Decoder&()>& decoder);

 private:
  std::string key(const std::string& identity, Dtypes dtypes, const std::string& what) const;
  std::string heldout_key(const std::string& identity, Dtypes dtypes, const std::string& set) const;
  void record(const std::string& key, const std::string& model, const eval::HeldoutScore& score);
  void save() const;

  const Session& session_;
  std::map<std::string, std::string> snapshots_;  // set -> snapshot
  std::map<std::string, Json> scores_;            // by key
  std::map<std::string, std::string> answers_;    // by key
};

// What stands for base + adapter in a ScoreBook. adapter may be null.
std::string identity_of(const model::WeightSource& weights, const lora::AdapterSet* adapter);

}  // namespace graft::cli
