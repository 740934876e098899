#include "train/report/html.h"

namespace graft::train {
namespace {

// Length of the well-formed UTF-8 sequence that begins at text[at]; 0 when there is none.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xC2 && lead < 0xE0 ? 2
                             : lead >= 0xE0 && lead < 0xF0 ? 3
                             : lead >= 0xF0 && lead < 0xF5 ? 4
                                                           : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(text[at + i]) & 0xC0) != 0x80) return 0;
  return length;
}

}  // namespace

Html escape(std::string_view text) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = sequence_length(text, i);
    const auto byte = static_cast<unsigned char>(text[i]);
    if (length == 0 || byte == 0x7F || (byte < 0x20 && byte != '\n' && byte != '\t')) {
      out += replacement;
      ++i;
      continue;
    }
    switch (text[i]) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += text.substr(i, length);
    }
    i += length;
  }
  return {std::move(out)};
}

Html table(const std::vector<std::string>& head, const Rows& rows, const std::string& css_class) {
  std::string out = css_class.empty() ? "<div class=wide><table>" : "<div class=wide><table class=\"" + css_class + "\">";
  out += "<thead><tr>";
  for (const std::string& cell : head) out += "<th>" + escape(cell).source + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const Html& cell : row) out += "<td>" + cell.source + "</td>";
    out += "</tr>\n";
  }
  return {out + "</tbody></table></div>\n"};
}

Html facts(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string out = "<dl>";
  for (const auto& [name, value] : pairs)
    out += "<div><dt>" + escape(name).source + "</dt><dd>" + escape(value).source + "</dd></div>\n";
  return {out + "</dl>\n"};
}

}  // namespace graft::train
