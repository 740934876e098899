#include "data/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>

#include "core/error.h"

namespace graft::data {
namespace {

constexpr std::uint8_t kUppercase = kLetter | kUpper, kLowercase = kLetter | kLower, kEither = kLetter | kUpper | kLower,
                       kMark = kUpper | kLower, kNumeral = kNumber | kDigit;

struct Range {
  std::uint32_t first, last;
  std::uint8_t bits;
};

// Assigned in Unicode 15.1 and 16.0 (and, as digits alone, 17.0): what utf8proc of Unicode 15 does not have.
constexpr Range kNewer[] = {
    {0x897, 0x897, kMark},        {0x1c89, 0x1c89, kUppercase}, {0x1c8a, 0x1c8a, kLowercase},   {0xa7cb, 0xa7cc, kUppercase},
    {0xa7cd, 0xa7cd, kLowercase}, {0xa7da, 0xa7da, kUppercase}, {0xa7db, 0xa7db, kLowercase},   {0xa7dc, 0xa7dc, kUppercase},
    {0x105c0, 0x105f3, kEither},  {0x10d40, 0x10d49, kNumeral}, {0x10d4a, 0x10d4f, kEither},    {0x10d50, 0x10d65, kUppercase},
    {0x10d69, 0x10d6d, kMark},    {0x10d6f, 0x10d6f, kEither},  {0x10d70, 0x10d85, kLowercase}, {0x10ec2, 0x10ec4, kEither},
    {0x10efc, 0x10efc, kMark},    {0x11380, 0x11389, kEither},  {0x1138b, 0x1138b, kEither},    {0x1138e, 0x1138e, kEither},
    {0x11390, 0x113b5, kEither},  {0x113b7, 0x113b7, kEither},  {0x113b8, 0x113c0, kMark},      {0x113c2, 0x113c2, kMark},
    {0x113c5, 0x113c5, kMark},    {0x113c7, 0x113ca, kMark},    {0x113cc, 0x113d0, kMark},      {0x113d1, 0x113d1, kEither},
    {0x113d2, 0x113d2, kMark},    {0x113d3, 0x113d3, kEither},  {0x113e1, 0x113e2, kMark},      {0x116d0, 0x116e3, kNumeral},
    {0x11bc0, 0x11be0, kEither},  {0x11bf0, 0x11bf9, kNumeral}, {0x11de0, 0x11de9, kDigit},     {0x11f5a, 0x11f5a, kMark},
    {0x13460, 0x143fa, kEither},  {0x16100, 0x1611d, kEither},  {0x1611e, 0x1612f, kMark},      {0x16130, 0x16139, kNumeral},
    {0x16d40, 0x16d6c, kEither},  {0x16d70, 0x16d79, kNumeral}, {0x16ff4, 0x16ff6, kDigit},     {0x18cff, 0x18cff, kEither},
    {0x1ccf0, 0x1ccf9, kNumeral}, {0x1e5d0, 0x1e5ed, kEither},  {0x1e5ee, 0x1e5ef, kMark},      {0x1e5f0, 0x1e5f0, kEither},
    {0x1e5f1, 0x1e5fa, kNumeral}, {0x2ebf0, 0x2ee5d, kEither},
};

// Combining marks assigned after Unicode 9, and the one letter whose composition came after it (U+11935 U+11930).
constexpr Range kComposeLater[] = {
    {0x7fd, 0x7fd, 0},     {0x897, 0x89f, 0},     {0x8ca, 0x8d3, 0},     {0x9fe, 0x9fe, 0},     {0xc3c, 0xc3c, 0},
    {0xd3b, 0xd3c, 0},     {0xeba, 0xeba, 0},     {0x1715, 0x1715, 0},   {0x1abf, 0x1ace, 0},   {0x1df6, 0x1dfa, 0},
    {0xa82c, 0xa82c, 0},   {0x10d24, 0x10d27, 0}, {0x10d69, 0x10d6d, 0}, {0x10eab, 0x10eac, 0}, {0x10efc, 0x10eff, 0},
    {0x10f46, 0x10f50, 0}, {0x10f82, 0x10f85, 0}, {0x11070, 0x11070, 0}, {0x1133b, 0x1133b, 0}, {0x11382, 0x113e2, 0},
    {0x1145e, 0x1145e, 0}, {0x11839, 0x1183a, 0}, {0x11930, 0x11930, 0}, {0x1193d, 0x1193e, 0}, {0x11943, 0x11943, 0},
    {0x119e0, 0x119e0, 0}, {0x11a34, 0x11a34, 0}, {0x11a47, 0x11a47, 0}, {0x11a99, 0x11a99, 0}, {0x11d42, 0x11d42, 0},
    {0x11d44, 0x11d45, 0}, {0x11d97, 0x11d97, 0}, {0x11f41, 0x11f42, 0}, {0x1611e, 0x1612f, 0}, {0x16d63, 0x16d6a, 0},
    {0x16ff0, 0x16ff1, 0}, {0x1e08f, 0x1e08f, 0}, {0x1e130, 0x1e136, 0}, {0x1e2ae, 0x1e2ae, 0}, {0x1e2ec, 0x1e2ef, 0},
    {0x1e4ec, 0x1e4ef, 0}, {0x1e5ee, 0x1e5ef, 0},
};

std::uint8_t category_bits(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kUppercase;
    case UTF8PROC_CATEGORY_LL:
      return kLowercase;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kEither;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumeral;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return kSpace;
    default:
      return 0;
  }
}

bool composable(std::uint32_t code, const utf8proc_property_t& property, std::uint8_t bits) {
  if (code < 0x300) return false;
  const bool hangul_vowel_or_tail = (code >= 0x1161 && code <= 0x1175) || (code >= 0x11A8 && code <= 0x11C2);
  return property.combining_class != 0 || property.decomp_seqindex != UINT16_MAX || hangul_vowel_or_tail || bits == kMark;
}

std::string utf8proc_nfc(std::string_view text) {
  utf8proc_uint8_t* out = nullptr;
  const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                              &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> guard(out, &std::free);
  if (n < 0) throw DataError(cat("text cannot be normalized to NFC: ", utf8proc_errmsg(n)));
  return {reinterpret_cast<const char*>(out), static_cast<std::size_t>(n)};
}

}  // namespace

ClassTable::ClassTable() {
  std::vector<std::uint8_t> bits(0x110000);
  for (std::uint32_t code = 0; code < bits.size(); ++code) {
    const utf8proc_property_t& property = *utf8proc_get_property(static_cast<utf8proc_int32_t>(code));
    bits[code] = category_bits(static_cast<utf8proc_category_t>(property.category));
    if (composable(code, property, bits[code])) bits[code] |= kComposable;
  }
  for (const std::uint32_t control : {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}) bits[control] |= kSpace;
  for (const Range& range : kNewer)
    for (std::uint32_t code = range.first; code <= range.last; ++code) bits[code] = range.bits | (bits[code] & kComposable);
  for (const Range& range : kComposeLater)
    for (std::uint32_t code = range.first; code <= range.last; ++code) bits[code] |= kComposable | kComposeAlone;

  std::map<std::array<std::uint8_t, 256>, std::uint16_t> seen;
  for (std::size_t block = 0; block < index_.size(); ++block) {
    std::array<std::uint8_t, 256> content;
    std::copy_n(bits.begin() + static_cast<std::ptrdiff_t>(block * 256), 256, content.begin());
    const auto [entry, added] = seen.emplace(content, static_cast<std::uint16_t>(blocks_.size()));
    if (added) blocks_.push_back(content);
    index_[block] = entry->second;
  }
}

const ClassTable& class_table() {
  static const ClassTable table;
  return table;
}

// Text changes only in runs of composable code points and the one before such a run; both ends of the stretch are
// starters that never compose with what precedes them, so each stretch is composed on its own.
bool compose_nfc(std::string_view text, std::string& composed) {
  const ClassTable& classes = class_table();
  const char *begin = text.data(), *end = begin + text.size();
  const char *done = begin, *starter = begin;
  std::string out;
  for (const char* p = begin; p < end;) {
    if (static_cast<unsigned char>(*p) < 0x80) {
      starter = p++;
      continue;
    }
    CodePoint point = decode_utf8(p, end);
    if (!(classes[point.value] & kComposable)) {
      starter = p;
      p += point.bytes;
      continue;
    }
    out.append(done, starter);
    const char* stretch = starter;
    while (p < end) {
      point = decode_utf8(p, end);
      const std::uint8_t bits = classes[point.value];
      if (!(bits & kComposable)) break;
      if (bits & kComposeAlone) {
        out += utf8proc_nfc({stretch, static_cast<std::size_t>(p - stretch)});
        out.append(p, static_cast<std::size_t>(point.bytes));
        stretch = p + point.bytes;
      }
      p += point.bytes;
    }
    out += utf8proc_nfc({stretch, static_cast<std::size_t>(p - stretch)});
    done = starter = p;
  }
  if (done == begin) return false;
  out.append(done, end);
  composed = std::move(out);
  return true;
}

}  // namespace graft::data
