#include "core/error.h"

#include <cstdint>

namespace graft {
namespace {

// Bytes of the well-formed UTF-8 sequence at text[at], 0 when there is none (RFC 3629: no overlong forms, no surrogates).
std::size_t utf8_length(std::string_view text, std::size_t at) {
  auto byte = [&](std::size_t i) -> unsigned { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0; };
  auto tail = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned lead = byte(0), next = byte(1);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if ((lead == 0xE0 && next < 0xA0) || (lead == 0xED && next > 0x9F)) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if ((lead == 0xF0 && next < 0x90) || (lead == 0xF4 && next > 0x8F)) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string quote(std::string_view name) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out = "'";
  for (std::size_t i = 0; i < name.size();) {
    if (i >= 80) {
      out += "...";
      break;
    }
    const auto byte = static_cast<unsigned char>(name[i]);
    const std::size_t length = utf8_length(name, i);
    if (length == 0 || byte < 0x20 || byte == 0x7F || (byte == 0xC2 && static_cast<unsigned char>(name[i + 1]) < 0xA0)) {
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
      ++i;
    } else {
      out += name.substr(i, length);
      i += length;
    }
  }
  return out + "'";
}

}  // namespace graft
