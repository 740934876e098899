// The byte-level alphabet of GPT-2: printable Latin-1 bytes stand for themselves, the other 68 for U+0100, U+0101, ... in order.
// Vocabulary files spell tokens in it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace graft::data {

// Nothing when a character is not of the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelled);

}  // namespace graft::data
