#include "core/nearest.h"

#include <algorithm>

namespace graft {
namespace {

constexpr std::size_t kLongestName = 64;  // nobody misspells longer ones by a few letters

char fold(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  return c == '-' ? '_' : c;
}

bool begins_with(std::string_view text, std::string_view start) {
  return start.size() >= 3 && start.size() <= text.size() &&
         std::equal(start.begin(), start.end(), text.begin(), [](char a, char b) { return fold(a) == fold(b); });
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  const std::size_t width = b.size() + 1;
  std::vector<int> before(width), above(width), row(width);  // two rows back, one row back, this one
  for (std::size_t j = 0; j < width; ++j) row[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j < width; ++j) {
      const bool same = fold(a[i - 1]) == fold(b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]))
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  if (name.empty() || name.size() > kLongestName) return {};
  const int limit = std::max(2, static_cast<int>(name.size() / 3));
  std::string best;
  int best_distance = limit + 1;
  for (const std::string& candidate : candidates) {
    int distance = edit_distance(name, candidate);
    if (distance >= static_cast<int>(candidate.size())) continue;  // nothing in common
    if (distance > limit && (begins_with(name, candidate) || begins_with(candidate, name))) distance = limit;
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace graft
