// What a run writes down while it trains:
//   loss.jsonl      one line per step and per evaluation; a pure function of the run's identity, so equal runs have equal bytes
//                   {"step":1,"loss":2.31,"learning_rate":0.0002,"gradient_norm":0.8,"tokens":4096[,"skipped":"<why>"]
//                    [,"merge_aware":true]}
//                   {"step":20,"set":"heldout","nll":...,"tokens":...,"bytes":...,"bits_per_byte":...,"perplexity":...
//                    [,"merge_aware":true]}: the loss or score of the weights as they will be served (train/merge_aware.h)
//   metrics.jsonl   the same with wall-clock time: {...,"tokens_per_second":1834.2,"seconds":12.1,"time":1760000000.0}
//   tensorboard/events.out.tfevents.*   the same for TensorBoard
// Numbers are printed with the fewest digits that read back as the same double; one that is not finite is null.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "eval/heldout.h"
#include "train/append_log.h"

namespace graft::train {

struct StepRecord {
  std::int64_t step = 0;  // 1 after the first optimizer step
  double loss = 0;        // nats per trained token, mean over the global batch
  double learning_rate = 0;
  double gradient_norm = 0;      // before clipping
  std::int64_t tokens = 0;       // read so far in the run
  bool merge_aware = false;      // the step ran on rounded weights
  std::string skipped;           // why the step changed nothing; empty: it was applied
  double tokens_per_second = 0;  // of this step
  double seconds = 0;            // of training so far, over all processes of the run
};

// Byte positions of the logs, kept in every checkpoint.
struct LogPositions {
  std::uint64_t loss = 0, metrics = 0, events = 0;
};

class Metrics {
 public:
  // Opens the logs in `run_dir` and cuts them to `at` (zeros: a new run).
  Metrics(const fs::path& run_dir, const LogPositions& at);
  void step(const StepRecord& record);
  void evaluation(std::int64_t step, const eval::HeldoutScore& score, bool merge_aware = false);
  LogPositions sync();  // everything so far is on disk; where the logs end

 private:
  AppendLog loss_, metrics_, events_;
};

}  // namespace graft::train
