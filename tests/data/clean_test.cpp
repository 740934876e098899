// Cleaning of text: line ends, blanks, control bytes, invalid UTF-8, what is no text in Markdown.
#include "data/clean.h"

#include <random>

#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;
using namespace std::string_literals;

TEST_CASE("clean text has plain line ends, no trailing blanks, no control bytes", "[clean]") {
  CHECK(clean_text("a \t\r\nb\rc\fd\ve\n") == "a\nb\nc\nd\ne");
  CHECK(clean_text("\n \n\ta\0b\x1B[0m\x7F"s) == "\tab[0m");
  CHECK(clean_text("a\n\n\n\n\n\nb\n\nc") == "a\n\n\nb\n\nc");
  CHECK(clean_text("\xEF\xBB\xBF\xEF\xBB\xBFx") == "\xEF\xBB\xBFx");
  CHECK(clean_text(" \n\t\r\n \x01 ") == "");
  CHECK(clean_text("a\x02\n\x03\nb") == "a\n\nb");
  CHECK(clean_text("\u00a0a\u3000\n\u2028b") == "\u00a0a\u3000\n\u2028b");  // other white space is the author's
}

TEST_CASE("cleaning twice is cleaning once", "[clean]") {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (unsigned n = random() % 12; n > 0; --n) text += " a\n\r\t\f\v\x01\xEF\xBB\xBF"[random() % 11];
    std::string valid;
    replace_invalid_utf8(text, valid);
    const std::string once = clean_text(valid);
    if (once.starts_with("\xEF\xBB\xBF")) continue;  // a mark behind another one
    CHECK(clean_text(once) == once);
  }
}

TEST_CASE("UTF-8 is replaced as Python replaces it", "[clean]") {
  // python3: for b in ...: b.decode(errors="replace"), and the number of U+FFFD in it
  const std::tuple<std::string, std::string, int> cases[] = {
      {"plain", "plain", 0},           {"\x80", "\uFFFD", 1},
      {"\xC3", "\uFFFD", 1},           {"\xC3\xA9\xC3", "\u00e9\uFFFD", 1},
      {"\xE2\x82", "\uFFFD", 1},       {"\xE2\x28\xA1", "\uFFFD(\uFFFD", 2},
      {"\xF0\x9F\x98", "\uFFFD", 1},   {"\xF0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD", 4},
      {"\xF5\x80", "\uFFFD\uFFFD", 2}, {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD", 3},
      {"\xEF\xBF\xBD", "\uFFFD", 0},
  };
  for (const auto& [bytes, text, count] : cases) {
    std::string out;
    CHECK(replace_invalid_utf8(bytes, out) == count);
    CHECK(out == text);
  }
}

TEST_CASE("front matter and comments of Markdown", "[clean]") {
  CHECK(strip_markdown_noise("---\na: b\n---\ntext") == "text");
  CHECK(strip_markdown_noise("\xEF\xBB\xBF+++\r\na = 1\r\n+++\r\ntext") == "text");
  CHECK(strip_markdown_noise("---\nno end") == "---\nno end");
  CHECK(strip_markdown_noise("----\na\n---\n") == "----\na\n---\n");
  CHECK(strip_markdown_noise("text\n---\na\n---\n") == "text\n---\na\n---\n");
  CHECK(strip_markdown_noise("a<!-- b -->c<!--\n-->d") == "acd");
  CHECK(strip_markdown_noise("  ~~~\n<!-- a -->\n```\n~~~\n<!-- b -->c") == "  ~~~\n<!-- a -->\n```\n~~~\nc");
  CHECK(strip_markdown_noise("") == "");
}

TEST_CASE("prose between rules and comments that are shown are text", "[clean]") {
  for (const std::string text : {
           "---\n# Safety notice\nKeep the valve shut.\n---\nrest",
           "---\nNote: keep the valve shut.\nAnd mind the step.\n---\nrest",
           "---\n\ntext\n---\n",
           "+++\nnote: this is prose\n+++\n",
           "Write `<!--` to begin a comment,\nmuch more,\nand `-->` to end it.\n",
           "`` a ` <!-- ``\n-->\n",
           "    <!-- an indented block\n    of code -->\n",
           "````\n```\n<!-- a -->\n```\n<!-- b -->\n````\n",
           "```\n``` x\n<!-- a -->\n```\n",
       }) {
    INFO(text);
    CHECK(strip_markdown_noise(text) == text);
  }
  CHECK(strip_markdown_noise("---\ntitle: x\ntags:\n  - a\n- b\n\n# note\n\"k\": 1\n---\ntext") == "text");
  CHECK(strip_markdown_noise("+++\n[menu]\n+++\n") == "+++\n[menu]\n+++\n");  // no entry at its beginning
  CHECK(strip_markdown_noise("```x``` <!-- a -->b `c <!-- d -->e") == "```x``` b `c e");
}
