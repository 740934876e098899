// Help in two columns, for a terminal.
#pragma once

#include <cstddef>
#include <string>

namespace graft {

// `first`, then the words of `text` from `column` on, in as many lines as they need; below `first` where that is as long. ASCII.
std::string in_column(std::string first, std::size_t column, const std::string& text, std::size_t width = 130);

}  // namespace graft
