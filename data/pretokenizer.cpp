#include "data/pretokenizer.h"

#include "data/unicode.h"

namespace graft::data {
namespace {

// One code point with its class; classes of ASCII skip the decoding.
struct Point {
  std::uint8_t bits;
  int bytes;
};
Point point_at(const ClassTable& table, const char* p, const char* end) {
  const auto byte = static_cast<unsigned char>(*p);
  if (byte < 0x80) return {table.ascii(byte), 1};
  const CodePoint point = decode_utf8(p, end);
  return {table[point.value], point.bytes};
}

const char* skip_all_of(const ClassTable& table, const char* p, const char* end, std::uint8_t wanted) {
  while (p < end) {
    const Point point = point_at(table, p, end);
    if (!(point.bits & wanted)) break;
    p += point.bytes;
  }
  return p;
}
const char* skip_none_of(const ClassTable& table, const char* p, const char* end, std::uint8_t unwanted) {
  while (p < end) {
    const Point point = point_at(table, p, end);
    if (point.bits & unwanted) break;
    p += point.bytes;
  }
  return p;
}

bool is_newline(char c) { return c == '\n' || c == '\r'; }

// 's 't 're 've 'm 'll 'd at p, which holds an apostrophe; returns its end, or p.
const char* contraction(const char* p, const char* end, bool any_case) {
  const auto letter = [&](std::ptrdiff_t i) {
    const char c = end - p > i ? p[i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return p + 3;
  if (first == 'l' && second == 'l') return p + 3;
  // U+017F, the long s, is another case of s.
  if (any_case && end - p >= 3 && p[1] == '\xC5' && p[2] == '\xBF') return p + 3;
  return p;
}

// \s+(?!\S)|\s+ where the run [p, run_end) of white space is not empty and `last` is its last code point: all of it at
// the end of the text, else all but the last, which belongs to the next piece; a single one stands alone.
const char* spaces(const char* p, const char* last, const char* run_end, bool at_end) {
  return at_end || last == p ? run_end : last;
}

template <std::uint8_t kNumeric, bool kDigitsApart>
const char* gpt2_piece(const char* p, const char* end) {
  const ClassTable& table = class_table();
  const Point first = point_at(table, p, end);
  if (kDigitsApart && (first.bits & kDigit)) return p + first.bytes;
  if (*p == '\'') {
    const char* q = contraction(p, end, false);
    if (q != p) return q;
  }
  const char* q = *p == ' ' ? p + 1 : p;
  if (q < end) {
    const Point point = point_at(table, q, end);
    if (point.bits & kLetter) return skip_all_of(table, q + point.bytes, end, kLetter);
    if (!kDigitsApart && (point.bits & kNumeric)) return skip_all_of(table, q + point.bytes, end, kNumeric);
    if (!(point.bits & (kLetter | kNumeric | kSpace)))
      return skip_none_of(table, q + point.bytes, end, kLetter | kNumeric | kSpace);
  }
  const char *last = p, *run = p;
  while (run < end) {
    const Point point = point_at(table, run, end);
    if (!(point.bits & kSpace)) break;
    last = run;
    run += point.bytes;
  }
  // A digit ends the stretch that the pattern sees.
  const bool at_end = run == end || (kDigitsApart && (point_at(table, run, end).bits & kDigit));
  return spaces(p, last, run, at_end);
}

// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, with a slash among the newlines that may follow for tekken. One
// of them always matches where the alternatives before them did not.
template <bool kSlash>
const char* symbols_or_spaces(const ClassTable& table, const char* p, const char* end) {
  const char* q = *p == ' ' ? p + 1 : p;
  if (q < end && !(point_at(table, q, end).bits & (kLetter | kNumber | kSpace))) {
    q = skip_none_of(table, q, end, kLetter | kNumber | kSpace);
    while (q < end && (is_newline(*q) || (kSlash && *q == '/'))) ++q;
    return q;
  }
  const char *last = p, *run = p, *after_newline = nullptr;
  while (run < end) {
    const Point point = point_at(table, run, end);
    if (!(point.bits & kSpace)) break;
    last = run;
    run += point.bytes;
    if (is_newline(*last)) after_newline = run;
  }
  return after_newline ? after_newline : spaces(p, last, run, run == end);
}

const char* numbers(const ClassTable& table, const char* p, const char* end, int at_most) {
  for (int n = 0; n < at_most && p < end; ++n) {
    const Point point = point_at(table, p, end);
    if (!(point.bits & kNumber)) break;
    p += point.bytes;
  }
  return p;
}

template <int kMaxDigits>
const char* llama3_piece(const char* p, const char* end) {
  const ClassTable& table = class_table();
  if (*p == '\'') {
    const char* q = contraction(p, end, true);
    if (q != p) return q;
  }
  const Point point = point_at(table, p, end);
  const char* next = p + point.bytes;
  if (point.bits & kLetter) return skip_all_of(table, next, end, kLetter);
  if (point.bits & kNumber) return numbers(table, p, end, kMaxDigits);
  if (!is_newline(*p) && next < end) {
    const Point letter = point_at(table, next, end);
    if (letter.bits & kLetter) return skip_all_of(table, next + letter.bytes, end, kLetter);
  }
  return symbols_or_spaces<false>(table, p, end);
}

// [upper]*[lower]+ at p, where marks and letters without case are both: greedy, then giving back capitals until one
// lower remains. Returns p when it does not match; `upper_end` is where the first run ends.
const char* capitalized(const ClassTable& table, const char* p, const char* end, const char*& upper_end) {
  const char* last_lower_end = p;
  const char* run = p;
  while (run < end) {
    const Point point = point_at(table, run, end);
    if (!(point.bits & kUpper)) break;
    run += point.bytes;
    if (point.bits & kLower) last_lower_end = run;
  }
  upper_end = run;
  const char* lower_end = skip_all_of(table, run, end, kLower);
  return lower_end != run ? lower_end : last_lower_end;
}

const char* tekken_piece(const char* p, const char* end) {
  const ClassTable& table = class_table();
  const Point point = point_at(table, p, end);
  if (point.bits & kNumber) return p + point.bytes;
  const char *upper_end = p, *prefixed_upper_end = p;
  const bool may_lead = !(point.bits & kLetter) && !is_newline(*p);
  if (may_lead) {
    const char* word = p + point.bytes;
    const char* q = capitalized(table, word, end, prefixed_upper_end);
    if (q != word) return q;
    if (prefixed_upper_end == word) prefixed_upper_end = p;
  }
  const char* q = capitalized(table, p, end, upper_end);
  if (q != p) return q;
  if (prefixed_upper_end != p) return prefixed_upper_end;
  if (upper_end != p) return upper_end;
  return symbols_or_spaces<true>(table, p, end);
}

}  // namespace

PieceScanner piece_scanner(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::gpt2:
      return gpt2_piece<kNumber, false>;
    case PreTokenizer::smollm:
      return gpt2_piece<kNumber | kDigit, true>;
    case PreTokenizer::llama3:
      return llama3_piece<3>;
    case PreTokenizer::qwen2:
      return llama3_piece<1>;
    case PreTokenizer::tekken:
      return tekken_piece;
  }
  return nullptr;
}

}  // namespace graft::data
