// From a config, a base and a tokenizer to a trained adapter in the run directory (train/run_dir.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer.h"
#include "eval/heldout.h"
#include "model/weights.h"
#include "train/config.h"
#include "train/merge_aware.h"
#include "train/run_dir.h"

namespace graft::train {

enum class Resume {
  automatic,  // go on where the run directory's last checkpoint ends; begin when there is none
  required,   // DataError when there is nothing to go on with
  fresh,      // forget what the run directory holds of a run
};

struct TrainReport {
  fs::path adapter;                // PEFT directory
  bool already_done = false;       // the run directory held this very run, finished and intact: nothing was done
  bool corpus_changed = false;     // since the run began: it was trained on the documents of then
  std::int64_t resumed_from = -1;  // step of the checkpoint; -1: from the start
  std::int64_t steps = 0, skipped = 0, tokens = 0, trained_tokens = 0, adapter_parameters = 0;
  double first_loss = 0, last_loss = 0;               // nats per trained token, of one step each
  double seconds = 0;                                 // in steps, over all processes of the run
  std::uint64_t planned_memory = 0, peak_memory = 0;  // bytes; the plan's total and what this process took
  int threads = 0;
  std::string storage_dtype, compute_dtype;            // train/identity.h
  std::map<std::string, std::int64_t> dropped_tokens;  // of one epoch, by reason
  std::string merge_aware;                             // format whose rounding the last steps ran on; empty: none did
  std::int64_t merge_aware_from = 0;                   // the first of these steps, counted from 1
  std::vector<eval::HeldoutScore> heldout;             // of the final adapter, one per set (without the per-document lists when
                                                       // already_done); on the base in the precision that trained, and
                                                       // on rounded weights when merge-aware
  double tokens_per_second() const;
  Json json() const;
};

// What can be known to be wrong before any data is read. ConfigError: train.length or eval.length beyond the base's context;
// DataError: the tokenizer has ids that the base does not embed.
void check_fit(const RunConfig& config, const model::ModelSpec& spec, const data::Tokenizer& tokenizer);

// ConfigError naming the key when it is more than the model's context.
void check_length(const char* key, std::int64_t length, const model::ModelSpec& spec);

TrainReport report_from_json(const Json& json, const std::string& origin);  // FormatError when a field is missing

// What another run of this config and base would be asked to do otherwise than the run that is pinned so: a line for each setting
// (train/identity.h). The documents are not compared. Sets the number of threads of the process.
std::vector<std::string> changes_since(const Pins& then, const RunConfig& config, const model::WeightSource& base,
                                       const data::Tokenizer& tokenizer, const ServedFormat& served = {});

// Takes the run directory's lock; the caller must not hold it. Sets the number of threads of the process.
// DataError: the run directory holds a run of another identity (every difference is listed), or the tokenizer does not fit.
// MachineError: memory or disk will not do, said before the first step. Interrupted: after a checkpoint was written.
// served: of config.train.merge_aware.format; empty when that is.
TrainReport train(const RunConfig& config, const model::WeightSource& base, const data::Tokenizer& tokenizer,
                  Resume resume = Resume::automatic, const ServedFormat& served = {});

}  // namespace graft::train
