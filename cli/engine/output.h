// Results for people: aligned columns on stdout.
#pragma once

#include <string>
#include <vector>

#include "cli/engine/scores.h"

namespace graft::cli {

// The first row is the head. Columns whose body is all numbers are aligned right.
std::string columns(const std::vector<std::vector<std::string>>& rows);
std::string fixed(double value, int decimals);
std::string score_table(const std::vector<Score>& scores);  // the columns: kScores in cli/commands/help.cpp
void print_json(const Json& json);                          // text that is not UTF-8 is replaced

}  // namespace graft::cli
