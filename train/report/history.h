// The course of a run, read back from its metrics.jsonl (train/metrics.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace graft::train {

struct History {
  std::vector<std::pair<double, double>> loss, learning_rate, gradient_norm, tokens_per_second;  // (step, value)
  struct Evaluation {
    std::string set;
    std::vector<std::pair<double, double>> nats_per_token, bits_per_byte;  // (step, value)
  };
  std::vector<Evaluation> evaluations;  // by set, in order of appearance
  std::int64_t steps = 0, skipped = 0, tokens = 0;
  double seconds = 0;  // of training, over all processes of the run
  double mean_tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

// Empty when the file is not there; a torn last line is left out. FormatError for a malformed line.
History read_history(const std::filesystem::path& metrics_jsonl);

}  // namespace graft::train
