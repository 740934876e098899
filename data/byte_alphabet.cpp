#include "data/byte_alphabet.h"

#include <array>

#include "data/unicode.h"

namespace graft::data {
namespace {

constexpr auto kByteOf = [] {  // by code point; -1: not of the alphabet
  std::array<std::int16_t, 0x144> byte_of{};
  byte_of.fill(-1);
  std::size_t next = 0x100;
  for (std::int16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    byte_of[printable ? static_cast<std::size_t>(byte) : next++] = byte;
  }
  return byte_of;
}();

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelled) {
  std::string out;
  const char* end = spelled.data() + spelled.size();
  for (const char* p = spelled.data(); p < end;) {
    const CodePoint point = decode_utf8(p, end);
    if (point.value >= kByteOf.size() || kByteOf[point.value] < 0) return std::nullopt;
    out += static_cast<char>(kByteOf[point.value]);
    p += point.bytes;
  }
  return out;
}

}  // namespace graft::data
