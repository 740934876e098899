#include "data/byte_alphabet.h"

#include <array>

#include "data/unicode.h"

namespace graft::data {
namespace {

struct Alphabet {
  std::array<std::uint16_t, 256> code{};   // byte -> code point
  std::array<std::int16_t, 0x144> byte{};  // code point -> byte, -1 when none
  Alphabet() {
    byte.fill(-1);
    std::uint16_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      code[static_cast<std::size_t>(b)] = printable ? static_cast<std::uint16_t>(b) : next++;
      byte[code[static_cast<std::size_t>(b)]] = static_cast<std::int16_t>(b);
    }
  }
};
const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const std::uint16_t code = alphabet().code[static_cast<unsigned char>(c)];
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 63));
    }
  }
  return out;
}

std::optional<std::string> bytes_of_spelling(std::string_view spelled) {
  std::string out;
  const char* end = spelled.data() + spelled.size();
  for (const char* p = spelled.data(); p < end;) {
    const CodePoint point = decode_utf8(p, end);
    if (point.value >= alphabet().byte.size() || alphabet().byte[point.value] < 0) return std::nullopt;
    out += static_cast<char>(alphabet().byte[point.value]);
    p += point.bytes;
  }
  return out;
}

}  // namespace graft::data
