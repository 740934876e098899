#include "train/report/html.h"

#include "core/utf8.h"

namespace graft::train {
Html escape(std::string_view text) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
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
