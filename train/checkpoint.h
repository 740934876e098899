// Checkpoints of a run. Each is a directory that appears whole or not at all and is verified when it is read:
//
//   checkpoints/step-00000040/
//     adapter.safetensors      <module>.lora_A.weight (r, in), <module>.lora_B.weight (out, r)     f32
//     optimizer.safetensors    the same names with ".m" and ".v": AdamW's first and second moment  f32
//     state.json               the counters of TrainState and the run's identity (train/identity.h)
//     SHA256SUMS               "<sha256>  <file>" for the three others; `sha256sum -c SHA256SUMS` checks it by hand
//
// There is no generator and no scheduler state: randomness is counter-based, the learning rate a function of the step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/file.h"
#include "core/json.h"
#include "data/batch_source.h"
#include "lora/adapter.h"
#include "train/metrics.h"

namespace graft::train {

struct TrainState {
  std::int64_t step = 0;            // optimizer steps done, skipped ones too
  std::int64_t updates = 0;         // of these, applied: AdamW's t
  std::int64_t bad_in_a_row = 0;    // skipped steps since the last applied one
  std::int64_t tokens = 0;          // tokens read
  std::int64_t trained_tokens = 0;  // of these, with loss
  std::int64_t evaluated = -1;      // step of the last held-out evaluation, -1: none
  double first_loss = 0, last_loss = 0;
  double seconds = 0;  // spent in steps, over all processes of the run
  data::Cursor cursor;
  LogPositions logs;
};

// What training changes. m and v are flat f32 in the layout of adapters.parameters.
struct Parameters {
  lora::AdapterSet& adapters;
  at::Tensor m, v;
};

class Checkpoints {
 public:
  // identity: of the run; a checkpoint of another run is never loaded.
  Checkpoints(fs::path directory, Json identity);

  // MachineError when the disk fails (older checkpoints stay) or when a value is not finite (nothing is written).
  fs::path save(const TrainState& state, const Parameters& parameters);
  // The newest checkpoint that verifies; newer damaged ones are renamed to damaged-*, with a warning that says why. Nothing when
  // there are none; DataError when there are some and all are damaged, or when one is whole and of another run.
  std::optional<TrainState> load_newest(Parameters& parameters);
  // Deletes all but the newest `keep`, once the newest has been read back and verified.
  void prune(std::int64_t keep);

  std::optional<fs::path> newest() const;
  bool empty() const { return !newest(); }

 private:
  std::vector<std::pair<std::int64_t, fs::path>> list() const;  // newest first

  fs::path directory_;
  Json identity_;
};

}  // namespace graft::train
