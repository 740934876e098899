#include "data/html_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "data/html_entities.h"

namespace graft::data {
namespace {

constexpr std::size_t kMaxDepth = 64;  // of lists and tables that are told apart; deeper ones are read as their parent

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return out;
}

template <std::size_t N>
bool one_of(std::string_view name, const std::array<std::string_view, N>& sorted) {
  return std::ranges::binary_search(sorted, name);
}
constexpr auto names(auto... name) {
  std::array<std::string_view, sizeof...(name)> sorted{std::string_view(name)...};
  std::ranges::sort(sorted);
  return sorted;
}

// Content that is no markup: the text up to the end tag of the same name.
constexpr auto kRawText = names("iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp");
constexpr auto kDropped =
    names("audio", "button", "canvas", "datalist", "nav", "noscript", "object", "select", "svg", "template", "video");
constexpr auto kVoid =
    names("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr");
constexpr auto kParagraph = names("article", "blockquote", "details", "dl", "fieldset", "figure", "h1", "h2", "h3", "h4", "h5",
                                  "h6", "hr", "ol", "p", "pre", "section", "table", "ul");
constexpr auto kLine =
    names("address", "aside", "body", "caption", "center", "dd", "dialog", "dir", "div", "dt", "figcaption", "footer", "form",
          "header", "hgroup", "legend", "li", "main", "menu", "option", "summary", "tbody", "tfoot", "thead", "tr");
constexpr auto kContainer =
    names("aside", "div", "footer", "header", "menu", "nav", "ol", "p", "section", "span", "table", "td", "tr", "ul");

// "nav", "navheader", "nav-links", "topnav", but not "navy".
bool names_navigation(std::string_view classes) {
  for (std::size_t at = 0; at < classes.size();) {
    std::size_t end = at;
    while (end < classes.size() && !is_space(classes[end])) ++end;
    const std::string word = lower(classes.substr(at, end - at));
    if ((word.starts_with("nav") && !word.starts_with("navy")) || word.ends_with("nav")) return true;
    at = end + 1;
  }
  return false;
}

struct Tag {
  std::string name;
  bool closing = false, empty = false;  // empty: "<a/>"
  bool navigation = false;
};

enum class Gap { none, space, line, paragraph };

struct List {
  bool numbered;
  int count = 0;
};
struct Table {
  bool in_cell = false;
  std::size_t row_start = 0;  // length of the text when the row began
  bool first_cell = true;
};

class HtmlText {
 public:
  explicit HtmlText(std::string_view html) : html_(html), xml_(html.substr(0, 64).find("<?xml") != std::string_view::npos) {}

  std::string run() {
    while (at_ < html_.size()) {
      if (html_[at_] == '<')
        markup();
      else
        text(std::min(html_.find('<', at_), html_.size()));
    }
    return std::move(out_);  // what began to be left out and never ended is kept: it may be the page
  }

 private:
  void markup();
  Tag tag();
  void skip_past(std::string_view mark) {
    const std::size_t found = html_.find(mark, at_);
    at_ = found == std::string_view::npos ? html_.size() : found + mark.size();
  }
  void skip_raw_text(const std::string& name);
  void open(const Tag& tag);
  void close(const std::string& name);
  void open_cell();
  void text(std::size_t end);
  void put(std::string_view characters);
  void flush();
  void gap(Gap size);
  void begin_navigation(const Tag& tag, bool always);
  void end_navigation();
  bool in_cell() const { return std::ranges::any_of(tables_, &Table::in_cell); }

  std::string_view html_;
  const bool xml_;  // "<a/>" closes itself, as it does within <svg> everywhere
  std::size_t at_ = 0;
  std::string out_, marker_;  // marker_: of the list item whose text has not begun
  Gap gap_ = Gap::none;
  bool after_tab_ = false;  // a cell began: what separates paragraphs is not needed
  int pre_ = 0;
  bool in_link_ = false;
  std::size_t link_bytes_ = 0;  // of text within links
  std::vector<List> lists_;
  std::vector<Table> tables_;
  // The element that is left out, or that looks like navigation and is left out when it proves to be links for the most
  // part.
  struct {
    bool active = false, always = false;
    std::string name;
    int depth = 0;
    std::size_t start = 0, link_start = 0, lists = 0, tables = 0;
  } dropping_;
};

void HtmlText::gap(Gap size) {
  if (!marker_.empty()) return;  // "<li><p>": the paragraph is the item
  if (size == Gap::paragraph && in_cell()) size = Gap::line;
  gap_ = std::max(gap_, size);
}

void HtmlText::flush() {
  if (!out_.empty() && !after_tab_) {
    if (gap_ == Gap::space) out_ += ' ';
    if (gap_ >= Gap::line) out_ += '\n';
    if (gap_ == Gap::paragraph) out_ += '\n';
  }
  gap_ = Gap::none;
  after_tab_ = false;
  if (marker_.empty()) return;
  out_.append(2 * (lists_.empty() ? 0 : lists_.size() - 1), ' ');
  out_ += marker_;
  marker_.clear();
}

void HtmlText::put(std::string_view characters) {
  flush();
  out_ += characters;
  if (in_link_) link_bytes_ += characters.size();
}

void HtmlText::text(std::size_t end) {
  while (at_ < end) {
    const std::string_view rest = html_.substr(at_, end - at_);
    std::size_t plain = 0;
    while (plain < rest.size() && rest[plain] != '&' && rest[plain] != '\xC2' && (pre_ > 0 || !is_space(rest[plain]))) ++plain;
    if (plain > 0) {
      put(rest.substr(0, plain));
      at_ += plain;
      continue;
    }
    std::size_t length = 1;
    std::uint32_t code = static_cast<unsigned char>(rest[0]);
    if (rest[0] == '&') {
      const CharacterReference reference = character_reference(rest);
      if (reference.length > 0) code = reference.code, length = reference.length;
    } else if (rest.starts_with("\xC2\xA0") || rest.starts_with("\xC2\xAD")) {
      code = static_cast<unsigned char>(rest[1]), length = 2;
    } else if (rest[0] == '\xC2') {
      put(rest.substr(0, 1));
      ++at_;
      continue;
    }
    at_ += length;
    if (code == 0xA0 || (code < 0x80 && is_space(static_cast<char>(code)))) {
      if (pre_ > 0)
        put(" ");
      else
        gap_ = std::max(gap_, Gap::space);
    } else if (code != 0xAD) {  // a soft hyphen is no text
      std::string encoded;
      append_utf8(code, encoded);
      put(encoded);
    }
  }
}

Tag HtmlText::tag() {
  Tag tag;
  ++at_;
  if (html_[at_] == '/') tag.closing = true, ++at_;
  const std::size_t begin = at_;
  while (at_ < html_.size() && !is_space(html_[at_]) && html_[at_] != '/' && html_[at_] != '>') ++at_;
  tag.name = lower(html_.substr(begin, std::min<std::size_t>(at_ - begin, 32)));
  while (at_ < html_.size() && html_[at_] != '>') {
    tag.empty = html_[at_] == '/';
    if (is_space(html_[at_]) || html_[at_] == '/') {
      ++at_;
      continue;
    }
    const std::size_t name = at_++;  // an attribute; its name may begin with "="
    while (at_ < html_.size() && !is_space(html_[at_]) && html_[at_] != '/' && html_[at_] != '>' && html_[at_] != '=') ++at_;
    const std::string attribute = lower(html_.substr(name, std::min<std::size_t>(at_ - name, 8)));
    while (at_ < html_.size() && is_space(html_[at_])) ++at_;
    if (at_ >= html_.size() || html_[at_] != '=') continue;
    ++at_;
    while (at_ < html_.size() && is_space(html_[at_])) ++at_;
    if (at_ >= html_.size()) break;
    const char quote = html_[at_] == '"' || html_[at_] == '\'' ? html_[at_++] : '\0';
    const std::size_t value = at_;
    while (at_ < html_.size() && (quote ? html_[at_] != quote : !is_space(html_[at_]) && html_[at_] != '>')) ++at_;
    const std::string_view content = html_.substr(value, at_ - value);
    if (quote && at_ < html_.size()) ++at_;
    if (attribute == "class") tag.navigation |= names_navigation(content);
    if (attribute == "role") tag.navigation |= lower(content) == "navigation";
  }
  if (at_ < html_.size()) ++at_;
  return tag;
}

void HtmlText::skip_raw_text(const std::string& name) {
  while (at_ < html_.size()) {
    skip_past("</");
    if (lower(html_.substr(at_, name.size())) != name) continue;
    const std::size_t end = at_ + name.size();
    if (end < html_.size() && !is_space(html_[end]) && html_[end] != '>' && html_[end] != '/') continue;
    skip_past(">");
    return;
  }
}

void HtmlText::markup() {
  const std::string_view rest = html_.substr(at_);
  if (rest.starts_with("<!--")) {
    at_ += 4;
    if (html_.substr(at_).starts_with(">"))
      ++at_;  // "<!-->" is complete
    else
      skip_past("-->");
  } else if (rest.starts_with("<![CDATA[")) {
    at_ += 9;
  } else if (rest.size() > 1 && (rest[1] == '!' || rest[1] == '?')) {
    skip_past(">");
  } else if (rest.size() > 2 && rest[1] == '/' && !is_letter(rest[2])) {
    skip_past(">");
  } else if (rest.size() > 1 && (is_letter(rest[1]) || (rest.size() > 2 && rest[1] == '/'))) {
    const Tag found = tag();
    const bool svg = found.name == "svg" || (dropping_.active && dropping_.name == "svg");
    const bool closed = one_of(found.name, kVoid) || (found.empty && (xml_ || svg));
    if (found.closing) {
      close(found.name);
    } else if (one_of(found.name, kRawText)) {
      if (!closed) skip_raw_text(found.name);
    } else {
      if (dropping_.active) {
        if (found.name == dropping_.name) ++dropping_.depth;
      } else if (!closed && one_of(found.name, kDropped)) {
        begin_navigation(found, found.name != "nav");
      } else if (!closed && found.navigation && one_of(found.name, kContainer)) {
        begin_navigation(found, false);
      }
      open(found);
      if (closed && !one_of(found.name, kVoid)) close(found.name);
    }
  } else {
    put("<");
    ++at_;
  }
}

void HtmlText::begin_navigation(const Tag& tag, bool always) {
  dropping_ = {true, always, tag.name, 1, out_.size(), link_bytes_, lists_.size(), tables_.size()};
}

// Navigation is short, or made of links. A wrapper of the whole page whose class happens to begin with "nav" is
// neither.
void HtmlText::end_navigation() {
  const std::size_t all = out_.size() - dropping_.start, links = link_bytes_ - dropping_.link_start;
  if (dropping_.always || all < 400 || links * 10 >= all * 3) {
    out_.resize(dropping_.start);
    marker_.clear();
    after_tab_ = false;
    pre_ = 0;
    lists_.resize(std::min(lists_.size(), dropping_.lists), List{false});
    tables_.resize(std::min(tables_.size(), dropping_.tables));
  }
  dropping_.active = false;
  gap_ = std::max(gap_, dropping_.always ? Gap::space : Gap::line);
}

void HtmlText::open_cell() {
  if (tables_.empty()) return;
  Table& table = tables_.back();
  if (!table.first_cell) {
    if (out_.size() == table.row_start) flush();  // the cells before were empty
    gap_ = Gap::none;
    marker_.clear();
    out_ += '\t';
    after_tab_ = true;
  }
  table.first_cell = false;
  table.in_cell = true;
}

void HtmlText::open(const Tag& tag) {
  const std::string& name = tag.name;
  if (name == "a") in_link_ = true;
  if (name == "td" || name == "th") return open_cell();
  if (name == "br") {
    if (pre_ > 0)
      put("\n");
    else
      gap_ = gap_ >= Gap::line ? Gap::paragraph : Gap::line;
    return;
  }
  if (name == "tr" && !tables_.empty()) {
    after_tab_ = false;
    tables_.back() = {};
    gap(Gap::line);
    tables_.back().row_start = out_.size();
    return;
  }
  const bool list = name == "ul" || name == "ol";
  if (list && !lists_.empty()) {
    marker_.clear();
    gap(Gap::line);
  } else if (one_of(name, kParagraph)) {
    gap(Gap::paragraph);
  } else if (one_of(name, kLine)) {
    gap(Gap::line);
  }
  if (list && lists_.size() < kMaxDepth) lists_.push_back({name == "ol"});
  if (name == "table" && tables_.size() < kMaxDepth) tables_.push_back({});
  if (name == "li" && !lists_.empty()) {
    List& items = lists_.back();
    marker_ = items.numbered ? std::to_string(++items.count) + ". " : "- ";
  }
  if (name == "pre") {
    ++pre_;
    if (html_.substr(at_).starts_with("\r\n"))
      at_ += 2;
    else if (html_.substr(at_).starts_with("\n"))
      ++at_;
  }
}

void HtmlText::close(const std::string& name) {
  if (name == "a") in_link_ = false;
  if (name == "pre" && pre_ > 0) {
    --pre_;
    while (!out_.empty() && is_space(out_.back())) out_.pop_back();
  }
  if ((name == "tr" || name == "table") && !tables_.empty()) {
    after_tab_ = false;
    tables_.back().in_cell = false;
    if (name == "table") tables_.pop_back();
  }
  if ((name == "td" || name == "th") && !tables_.empty()) tables_.back().in_cell = false;
  const bool list = name == "ul" || name == "ol";
  if (list && !lists_.empty()) lists_.pop_back();
  if (name == "li") marker_.clear();
  if (one_of(name, kParagraph))
    gap(list && !lists_.empty() ? Gap::line : Gap::paragraph);
  else if (one_of(name, kLine))
    gap(Gap::line);
  if (dropping_.active && name == dropping_.name && --dropping_.depth == 0) end_navigation();
}

}  // namespace

std::string html_text(std::string_view html) { return HtmlText(html).run(); }

}  // namespace graft::data
