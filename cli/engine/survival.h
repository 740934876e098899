// How much of what an adapter learned is left in a file that rounds its weights:
//
//   survival = (bits(base) - bits(file)) / (bits(base) - bits(adapted))     bits: of all held-out sets together
//
// 1 when nothing is lost, 0 when the file is no better than the base. It says nothing where the adapter gained nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/engine/scores.h"
#include "export/exporter.h"

namespace graft::cli {

std::optional<double> survival(const std::vector<Score>& scores, const std::string& model);
std::string percent(const std::optional<double>& share);  // "97 %"; empty when unknown

// Withdraws the quantized artifacts that keep less than `least` of the gain, from `artifacts` too. What to tell the user: one
// sentence each, with the smallest file that keeps enough, or the format to try next; empty when all are good.
std::string withdraw_poor(std::vector<exports::Artifact>& artifacts, const std::vector<Score>& scores, double least,
                          const fs::path& directory);

}  // namespace graft::cli
