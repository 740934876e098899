#include "data/control_literals.h"

#include <algorithm>

namespace graft::data {

ControlLiterals::ControlLiterals(const Tokenizer& tokenizer) {
  for (const std::string& literal : tokenizer.control_literals()) {
    if (literal.size() < 3) continue;  // too short to be told from ordinary text
    std::vector<std::string>& group = by_first_byte_[static_cast<unsigned char>(literal[0])];
    if (group.empty()) first_bytes_ += literal[0];
    group.push_back(literal);
  }
  for (auto& group : by_first_byte_) {
    std::ranges::sort(
        group, [](const std::string& a, const std::string& b) { return a.size() != b.size() ? a.size() > b.size() : a < b; });
  }
}

std::int64_t ControlLiterals::count(std::string_view text) const {
  std::int64_t found = 0;
  for (const char first : first_bytes_) {
    const auto& group = by_first_byte_[static_cast<unsigned char>(first)];
    for (std::size_t at = text.find(first); at != std::string_view::npos; at = text.find(first, at)) {
      const std::string_view rest = text.substr(at);
      const auto match = std::ranges::find_if(group, [&](const std::string& literal) { return rest.starts_with(literal); });
      found += match != group.end();
      at += match != group.end() ? match->size() : 1;
    }
  }
  return found;
}

}  // namespace graft::data
