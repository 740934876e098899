// A run directory, of which one process at a time is the owner:
//
//   run.json                     written before step 1: what the run is (train/identity.h), pinned held-out snapshots, program
//   checkpoints/                 train/checkpoint.h
//   loss.jsonl, metrics.jsonl    train/metrics.h; tensorboard/ has the same
//   adapter/                     the result, a PEFT directory
//   train.json                   the report, written last: a run that has it is finished
//   .lock                        held while a process trains here
#pragma once

#include <map>
#include <optional>
#include <string>

#include "core/file.h"
#include "core/json.h"

namespace graft::train {

struct Pins {
  Json identity;
  std::map<std::string, std::string> heldout;  // set -> corpus snapshot
  std::string program = {};                    // that began it: "graft 0.1.0 on avx512_bf16"; empty: an older one did

  std::string text(const char* key) const;  // of the identity; FormatError when it is not there
  std::string started_from() const;         // sha256 of the adapter that the run went on from; empty: from none
};
// Of the run that began in a directory, whoever owns it now; FormatError when run.json is damaged.
std::optional<Pins> read_pins(const fs::path& run_dir);

class RunDir {
 public:
  // Creates the directory, locks it, removes what killed processes left half-written.
  explicit RunDir(const fs::path& path);

  const fs::path& path() const { return path_; }
  fs::path checkpoints() const { return path_ / "checkpoints"; }
  fs::path adapter() const { return path_ / "adapter"; }
  fs::path report() const { return path_ / "train.json"; }

  bool begun() const;  // there is a checkpoint or a report to lose
  void write_pins(const Pins& pins) const;
  void clear() const;  // removes everything named above but the lock

 private:
  fs::path path_;
  DirectoryLock lock_;
};

}  // namespace graft::train
