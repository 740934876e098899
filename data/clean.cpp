#include "data/clean.h"

#include <algorithm>

namespace graft::data {
namespace {

// Length of the well-formed sequence at the start of `s`, or 0; `bad` is then the length of its maximal invalid part.
std::size_t utf8_sequence(std::string_view s, std::size_t& bad) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned first = byte(0);
  bad = 1;
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i, ++bad) {
    if (i >= s.size()) return 0;
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return 0;
  }
  return length;
}

bool ends_line(char c) { return c >= '\n' && c <= '\r'; }  // newline, vertical tab, form feed, carriage return
bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; }

bool starts_line(std::string_view text, std::string_view mark) {
  return text.starts_with(mark) && (text.size() == mark.size() || text[mark.size()] == '\n' || text[mark.size()] == '\r');
}

std::size_t next_line(std::string_view text, std::size_t at) {
  const std::size_t end = text.find('\n', at);
  return end == std::string_view::npos ? text.size() : end + 1;
}

// Where the text begins after a front matter block, 0 without one.
std::size_t after_front_matter(std::string_view text) {
  for (const std::string_view mark : {"---", "+++"}) {
    if (!starts_line(text, mark)) continue;
    for (std::size_t at = next_line(text, 0); at < text.size(); at = next_line(text, at)) {
      if (starts_line(text.substr(at), mark)) return next_line(text, at);
      if (at > (1 << 16)) break;  // a rule at the top of a long text is no front matter
    }
  }
  return 0;
}

}  // namespace

std::int64_t replace_invalid_utf8(std::string_view bytes, std::string& out) {
  out.clear();
  out.reserve(bytes.size());
  std::int64_t replaced = 0;
  std::size_t copied = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    std::size_t bad = 0;
    const std::size_t length = utf8_sequence(bytes.substr(at, 4), bad);
    if (length > 0) {
      at += length;
      continue;
    }
    out.append(bytes, copied, at - copied);
    out += "\xEF\xBF\xBD";
    ++replaced;
    at += bad;
    copied = at;
  }
  out.append(bytes, copied);
  return replaced;
}

std::string clean_text(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string out;
  out.reserve(text.size());
  std::size_t empty_lines = 0;  // since the last line that was kept
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    bool controls = false;
    for (; end < text.size() && !ends_line(text[end]); ++end) controls |= is_control(text[end]);
    const std::size_t begin = out.size();
    if (!out.empty()) out.append(std::min<std::size_t>(empty_lines, 2) + 1, '\n');
    const std::size_t line = out.size();
    out += text.substr(at, end - at);
    if (controls) out.erase(std::remove_if(out.begin() + static_cast<std::ptrdiff_t>(line), out.end(), is_control), out.end());
    const std::size_t last = out.find_last_not_of(" \t");
    if (last == std::string::npos || last < line) {
      out.resize(begin);
      ++empty_lines;
    } else {
      out.resize(last + 1);
      empty_lines = 0;
    }
    at = end + (text.substr(end).starts_with("\r\n") ? 2 : 1);
  }
  return out;
}

std::string strip_markdown_noise(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string out;
  out.reserve(text.size());
  char fence = 0;  // of the code block that we are in
  for (std::size_t at = after_front_matter(text); at < text.size();) {
    const std::size_t end = next_line(text, at);
    const std::string_view line = text.substr(at, end - at);
    const std::size_t indent = line.find_first_not_of(' ');
    const std::string_view word = indent == std::string_view::npos ? std::string_view() : line.substr(indent);
    if (word.starts_with("```") || word.starts_with("~~~")) {
      if (fence == 0)
        fence = word[0];
      else if (fence == word[0])
        fence = 0;
    }
    const std::size_t open = fence == 0 ? line.find("<!--") : std::string_view::npos;
    if (open == std::string_view::npos) {
      out += line;
      at = end;
      continue;
    }
    out += line.substr(0, open);
    const std::size_t close = text.find("-->", at + open + 4);
    if (close == std::string_view::npos) {  // never closed: it is text
      out += text.substr(at + open);
      break;
    }
    at = close + 3;
  }
  return out;
}

}  // namespace graft::data
