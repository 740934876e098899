// Character references of HTML: "&amp;", "&#8212;", "&#x2014;".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace graft::data {

struct CharacterReference {
  std::uint32_t code = 0;  // Unicode code point, 0 when `text` does not begin with a reference that we know
  std::size_t length = 0;  // bytes of the reference, from "&" to ";"
};
CharacterReference character_reference(std::string_view text);

void append_utf8(std::uint32_t code, std::string& out);

}  // namespace graft::data
