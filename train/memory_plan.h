// What a run will need of the machine's memory and disk, told before the first step, and refused when it cannot fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/json.h"
#include "model/decoder.h"
#include "train/config.h"

namespace graft::train {

struct MemoryItem {
  std::string name;  // "activations of a forward and backward pass"
  std::uint64_t bytes = 0;
  std::string advice;  // the config key that makes it smaller
};

struct MemoryPlan {
  std::vector<MemoryItem> items;
  std::uint64_t available = 0;  // bytes the machine can give; 0: unknown
  std::uint64_t total() const;
  std::string text() const;  // a small table for people
  Json json() const;
  // MachineError with the largest item and the key to change, when total() is more than `available`.
  void check() const;
};

// Before anything is loaded. rows_per_epoch: packing tables grow with the corpus; its tokens are mapped.
MemoryPlan plan_run(const RunConfig& config, const model::ModelSpec& spec, at::ScalarType compute,
                    std::int64_t adapter_parameters, std::int64_t rows_per_epoch, std::uint64_t available);

// Of the scores after it, which are of the base as it is served, whatever train.base_precision held while training.
MemoryPlan plan_scores(const RunConfig& config, const model::ModelSpec& spec, at::ScalarType compute, std::uint64_t available);

model::BasePrecision base_precision(const TrainConfig& config);
model::Recompute recompute_of(const TrainConfig& config);

// Bytes this process may still allocate: MemAvailable of /proc/meminfo, or what its control group or one above it (version 2) has
// left when that is less. 0 when neither can be read. The roots are parameters for the tests. With device: cuda, what the GPU has
// free.
std::uint64_t available_memory(const fs::path& proc = "/proc", const fs::path& cgroup = "/sys/fs/cgroup");

// The path itself, or of what lies above it the nearest that is there.
fs::path existing_part(const fs::path& path);

// MachineError when the file system of `run_dir`, which need not be there yet, takes no files or has no room for `keep`
// checkpoints, the one being written and the adapter, less what of these is there.
void check_disk(const fs::path& run_dir, std::int64_t adapter_parameters, std::int64_t keep);

}  // namespace graft::train
