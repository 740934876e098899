// What the tokenizers need to know about Unicode: a class per code point, and composition (NFC).
//
// The ids of a published tokenizer depend on the Unicode version of the library that made them, so the versions are fixed here,
// whatever the machine has: letters, marks and numbers are those of Unicode 16 (utf8proc's 15 and a table of what came since),
// single digits those of Unicode 17, canonical composition that of Unicode 9. These are the versions inside PyPI tokenizers
// 0.23.3.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft::data {

enum CodePointClass : std::uint8_t {
  kLetter = 1,          // \p{L}
  kNumber = 2,          // \p{N}
  kSpace = 4,           // \s
  kUpper = 8,           // \p{Lu} \p{Lt} \p{Lm} \p{Lo} \p{M}
  kLower = 16,          // \p{Ll} \p{Lm} \p{Lo} \p{M}
  kDigit = 32,          // a number in the sense of the Digits pre-tokenizer
  kComposable = 64,     // may change under NFC, alone or together with what stands before it
  kComposeAlone = 128,  // as if it had no combining class: unknown to the composition's Unicode version
};

// The next code point of valid UTF-8; a byte that starts none counts as one code point of no class.
struct CodePoint {
  std::uint32_t value;
  int bytes;
};
inline CodePoint decode_utf8(const char* p, const char* end) {
  const auto byte = [p](int i) { return static_cast<unsigned char>(p[i]); };
  const std::uint32_t lead = byte(0);
  const auto left = end - p;
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xC2 && lead < 0xE0 && left >= 2) return {(lead & 31) << 6 | (byte(1) & 63u), 2};
  if (lead >= 0xE0 && lead < 0xF0 && left >= 3) return {(lead & 15) << 12 | (byte(1) & 63u) << 6 | (byte(2) & 63u), 3};
  if (lead >= 0xF0 && lead < 0xF5 && left >= 4)
    return {(lead & 7) << 18 | (byte(1) & 63u) << 12 | (byte(2) & 63u) << 6 | (byte(3) & 63u), 4};
  return {0x10FFFF, 1};
}

// Two steps: the block of 256 code points, then the code point.
class ClassTable {
 public:
  ClassTable();
  std::uint8_t operator[](std::uint32_t code_point) const {
    return code_point < 0x110000 ? blocks_[index_[code_point >> 8]][code_point & 255] : 0;
  }
  std::uint8_t ascii(unsigned char byte) const { return blocks_[0][byte]; }

 private:
  std::array<std::uint16_t, 0x1100> index_;
  std::vector<std::array<std::uint8_t, 256>> blocks_;
};
const ClassTable& class_table();  // built once, on first use

// Canonical composition. Returns false, and leaves `composed` alone, when `text` is composed already.
bool compose_nfc(std::string_view text, std::string& composed);

}  // namespace graft::data
