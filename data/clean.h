// Text as the tokenizer gets it: valid UTF-8, lines ended by "\n", no trailing blanks, no control bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace graft::data {

// Copies `bytes` with every maximal invalid sequence replaced by U+FFFD (Unicode 15, section 3.9, "substitution of maximal
// subparts": the same count as Python's errors="replace"). Returns the number of sequences replaced.
std::int64_t replace_invalid_utf8(std::string_view bytes, std::string& out);

// Of valid UTF-8. Drops a byte order mark, NUL and other control characters but tab and newline; CRLF, CR and form feeds become
// "\n"; blanks at the ends of lines, blank lines at the start and all white space at the end go; more than two blank lines become
// two.
std::string clean_text(std::string_view text);

// Removes what is not text in Markdown: a YAML or TOML block at the very start, and HTML comments outside code fences.
std::string strip_markdown_noise(std::string_view text);

}  // namespace graft::data
