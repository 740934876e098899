#include "core/error.h"

#include "core/utf8.h"

namespace graft {

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
