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

std::string_view line_at(std::string_view text, std::size_t at) { return text.substr(at, next_line(text, at) - at); }

// "key: value" of YAML, "key = value" of TOML.
bool is_entry(std::string_view line, char sign) {
  const std::size_t key = line.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-\"'");
  if (key == 0 || key == std::string_view::npos) return false;
  const std::size_t at = line.find_first_not_of(" \t", key);
  return at != std::string_view::npos && line[at] == sign;
}

// Or what goes on with one: indented, of a list, a table's head, a bracket, a comment, nothing.
bool goes_on(std::string_view line) { return std::string_view(" \t\r\n-#[]{}").find(line[0]) != std::string_view::npos; }

// Where the text begins after a front matter block, 0 without one. All of it must look like data, beginning with an entry: prose
// may stand between two rules as well.
std::size_t after_front_matter(std::string_view text) {
  for (const auto& [mark, sign] : {std::pair{std::string_view("---"), ':'}, {std::string_view("+++"), '='}}) {
    if (!starts_line(text, mark)) continue;
    const std::size_t first = next_line(text, 0);
    for (std::size_t at = first; at < text.size(); at = next_line(text, at)) {
      if (at > first && starts_line(text.substr(at), mark)) return next_line(text, at);
      if (!is_entry(line_at(text, at), sign) && (at == first || !goes_on(text.substr(at)))) break;
    }
  }
  return 0;
}

// A block of code, from a line of three or more ` or ~ to one of as many or more.
class Fence {
 public:
  // A line of the text, without the spaces before it; whether it is inside or opens or closes one.
  bool covers(std::string_view line) {
    const char mark = line.empty() ? ' ' : line[0];
    const std::size_t run = std::min(line.find_first_not_of(mark), line.size());
    const std::string_view rest = line.substr(run);
    if (length_ > 0) {
      if (mark == mark_ && run >= length_ && rest.find_first_not_of(" \t\r\n") == std::string_view::npos) length_ = 0;
      return true;
    }
    if ((mark != '`' && mark != '~') || run < 3 || (mark == '`' && rest.find('`') != std::string_view::npos)) return false;
    mark_ = mark, length_ = run;
    return true;
  }

 private:
  char mark_ = 0;
  std::size_t length_ = 0;  // 0: outside
};

// Where a comment begins in a line, outside of `code`.
std::size_t comment_in(std::string_view line) {
  for (std::size_t at = 0; at < line.size(); ++at) {
    if (line.substr(at).starts_with("<!--")) return at;
    if (line[at] != '`') continue;
    const std::size_t run = std::min(line.find_first_not_of('`', at), line.size()) - at;
    std::size_t close = at + run, found = 0;
    for (; close < line.size() && found != run; close += std::max<std::size_t>(found, 1))
      found = std::min(line.find_first_not_of('`', close), line.size()) - close;
    at = (found == run ? close : at + run) - 1;  // without an end it is no code
  }
  return std::string_view::npos;
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
  Fence fence;
  for (std::size_t at = after_front_matter(text); at < text.size();) {
    const std::size_t end = next_line(text, at);
    const std::string_view line = text.substr(at, end - at);
    const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
    const bool code = fence.covers(line.substr(indent)) || indent >= 4;
    const std::size_t open = code ? std::string_view::npos : comment_in(line);
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
