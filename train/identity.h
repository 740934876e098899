// What decides a run's bits: the config values that matter, the base, the tokenizer, the corpus snapshot, device, threads and
// dtypes. Equal identities give equal adapters and equal loss logs on the same kind of machine; a run only resumes under its own.
//
// Nor are the program's version and the instruction set part of it, which decide bits too: a run goes on under another, with a
// warning.
//
// Not part of it: merge-aware training and an adapter to start from where there is none, where things lie, how often to
// checkpoint or evaluate, when to give up. Those may change between resumes.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "model/weights.h"
#include "train/config.h"

namespace graft::train {

struct IdentityParts {
  std::string base;       // WeightSource::identity()
  std::string tokenizer;  // Tokenizer::hash()
  std::string corpus;     // Corpus::snapshot() of the pinned training shards
  std::string device = "cpu";
  int threads = 1;
  std::string storage, compute;       // dtypes: "bf16", "f32"; of the storage also "int8 of bf16", "nf4 of f32"
  std::int64_t calibration_rows = 0;  // that the format of the merge-aware phase looks at
  std::string started_from = {};      // lora::start_identity()
  std::string base_config = {};       // config_hash() of the base; empty: of a run that began before it was looked at
};
// sha256 of what a base's configuration makes of its tensors: two with the same weights are two models where it differs.
std::string config_hash(const model::WeightSource& base);
// A flat object: "train.rows": 4, "lora.rank": 16, "base": "<sha256>", ...
Json run_identity(const RunConfig& config, const IdentityParts& parts);

// One line for each value that differs: "train.rows: 4 then, 8 now". Empty when the identities are equal.
std::vector<std::string> differences(const Json& then, const Json& now);

}  // namespace graft::train
