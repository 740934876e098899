// "Did you mean": the candidate nearest to a misspelt name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace graft {

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment); case and '-' against '_' are
// free.
int edit_distance(std::string_view a, std::string_view b);

// The nearest candidate within a third of the name's length (at least 2 edits), or one that the name begins with or
// that begins with it; empty when none is that near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace graft
