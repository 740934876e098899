#include "core/wrap.h"

#include <algorithm>

namespace graft {

std::string in_column(std::string first, std::size_t column, const std::string& text, std::size_t width) {
  std::string out, line = std::move(first);
  if (line.size() >= column) {
    out = line + "\n";
    line.clear();
  }
  line.resize(column, ' ');
  bool begun = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (begun && line.size() + 1 + end - at > width) {
      out += line + "\n";
      line.assign(column, ' ');
      begun = false;
    }
    line += (begun ? " " : "") + text.substr(at, end - at);
    begun = true;
    at = end + 1;
  }
  return out + line + "\n";
}

}  // namespace graft
