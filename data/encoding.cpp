#include "data/encoding.h"

#include <iconv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace graft::data {
namespace {

// Of the families iso-8859-N and windows-125N, those alone whose name is another.
constexpr std::pair<std::string_view, const char*> kLabels[] = {
    {"ascii", "CP1252"},    {"big5", "BIG5-HKSCS"},         {"cp866", "IBM866"},      {"euc-jp", "EUC-JP"},
    {"euc-kr", "CP949"},    {"gb18030", "GB18030"},         {"gb2312", "GB18030"},    {"gbk", "GB18030"},
    {"ibm866", "IBM866"},   {"iso-2022-jp", "ISO-2022-JP"}, {"iso-8859-1", "CP1252"}, {"iso-8859-9", "CP1254"},
    {"koi8-r", "KOI8-R"},   {"koi8-u", "KOI8-U"},           {"latin1", "CP1252"},     {"macintosh", "MACINTOSH"},
    {"shift_jis", "CP932"}, {"us-ascii", "CP1252"},         {"windows-874", "CP874"}};

std::string encoding_of(std::string_view label) {
  for (const auto& [known, name] : kLabels)
    if (label == known) return name;
  if (label.starts_with("windows-125") && label.size() == 12) return "CP" + std::string(label.substr(8));
  if (label.starts_with("iso-8859-") && label.size() < 12) return "ISO-8859-" + std::string(label.substr(9));
  return "";
}

// The word behind `name` and "=" in a tag, in lower case.
std::string_view value_of(std::string_view tag, std::string_view name) {
  const auto skip = [&](std::string_view characters) {
    tag.remove_prefix(std::min(tag.find_first_not_of(characters), tag.size()));
  };
  const std::size_t at = tag.find(name);
  if (at == tag.npos) return {};
  tag.remove_prefix(at + name.size());
  skip(" \t\r\n\f");
  if (!tag.starts_with("=")) return {};
  skip("= \t\r\n\f\"'");
  return tag.substr(0, tag.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_"));
}

}  // namespace

std::string utf16(std::string_view bytes) {
  return bytes.starts_with("\xFF\xFE") ? "UTF-16LE" : bytes.starts_with("\xFE\xFF") ? "UTF-16BE" : "";
}

std::string declared_encoding(std::string_view page) {
  std::string head(page.substr(0, 1024));
  std::ranges::transform(head, head.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  const auto tag_at = [&](std::size_t at) { return std::string_view(head).substr(at, head.find('>', at) - at); };
  for (std::size_t at = 0; (at = head.find("<meta", at)) != std::string::npos; ++at)
    if (const std::string_view label = value_of(tag_at(at), "charset"); !label.empty()) return encoding_of(label);
  return head.starts_with("<?xml") ? encoding_of(value_of(tag_at(0), "encoding")) : "";
}

std::optional<std::int64_t> decode(std::string_view bytes, const std::string& encoding, std::string& out) {
  const iconv_t converter = iconv_open("UTF-8", encoding.c_str());
  if (converter == reinterpret_cast<iconv_t>(-1)) return std::nullopt;
  out.clear();
  out.reserve(bytes.size());
  std::int64_t replaced = 0;
  const std::size_t unit = encoding.starts_with("UTF-16") ? 2 : 1;
  std::array<char, 4096> buffer;
  char* from = const_cast<char*>(bytes.data());  // iconv does not write to it
  std::size_t left = bytes.size();
  while (left > 0) {
    char* to = buffer.data();
    std::size_t room = buffer.size();
    const std::size_t before = left;
    const bool stopped = iconv(converter, &from, &left, &to, &room) == static_cast<std::size_t>(-1);
    const bool full = stopped && errno == E2BIG;
    out.append(buffer.data(), to);
    if (!stopped) break;
    if (full && left < before) continue;
    out += "\xEF\xBF\xBD";
    ++replaced;
    const std::size_t skipped = std::min(unit, left);
    from += skipped;
    left -= skipped;
  }
  char* to = buffer.data();
  std::size_t room = buffer.size();
  iconv(converter, nullptr, nullptr, &to, &room);  // a character that waited for its accent
  out.append(buffer.data(), to);
  iconv_close(converter);
  return replaced;
}

}  // namespace graft::data
