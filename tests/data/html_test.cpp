// HTML to text: what is kept, what is left out, and that no page costs more than its length.
#include "data/html_text.h"

#include "data/html_entities.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

std::string repeated(std::string_view part, std::size_t times) {
  std::string out;
  out.reserve(part.size() * times);
  for (std::size_t i = 0; i < times; ++i) out += part;
  return out;
}

}  // namespace

TEST_CASE("paragraphs, headings and lines", "[html]") {
  CHECK(html_text("<h1>Head</h1>\n<p>One\n  two</p><p>three<br>four<br/><br/>five") == "Head\n\nOne two\n\nthree\nfour\n\nfive");
  CHECK(html_text("a<span>b</span> <b>c</b><i> d</i>") == "ab c d");
  CHECK(html_text("<div>a<div>b</div></div>c") == "a\nb\nc");
  CHECK(html_text("a<wbr>b&shy;c\xC2\xAD&nbsp;d") == "abc d");
}

TEST_CASE("lists and tables", "[html]") {
  CHECK(html_text("<ul><li>a<li><p>b</p><ul><li>c</ul></ul><ol><li>d</li><li>e</li></ol>") == "- a\n- b\n\n  - c\n\n1. d\n2. e");
  CHECK(html_text(
            "<table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td><p>2</p></td></tr><tr><td></td><td>x</td></tr></table>end") ==
        "k\tv\n1\t2\n\tx\n\nend");
}

TEST_CASE("pre keeps its lines and blanks, code around it does not", "[html]") {
  CHECK(html_text("<p>a</p><pre>\n  SELECT 1;\n\n    -- &lt;x&gt;\n</pre><p>b</p>") == "a\n\n  SELECT 1;\n\n    -- <x>\n\nb");
  CHECK(html_text("<pre>a<b> b </b>c</pre>") == "a b c");
  CHECK(html_text("<code>a  b\n c</code>") == "a b c");
}

TEST_CASE("scripts, styles, heads, forms, media and navigation are left out", "[html]") {
  CHECK(html_text("<head><title>t</title><style>p { }</style></head>a<script>if (x</script>b<SCRIPT src=x>\"</SCRIPT >c") ==
        "abc");
  CHECK(html_text("a<script>'</scripty>'</script>b") == "ab");
  CHECK(html_text("a<!-- <p>no</p> -->b<!-->c<![CDATA[d]]><!DOCTYPE x><?php no ?>e") == "abcd]]>e");
  CHECK(html_text("a<svg><svg></svg>no</svg>b<button>no</button>c<select><option>no</select>d<textarea>no<p></textarea>e") ==
        "a b c de");
  CHECK(html_text("<div class=\"navheader\"><a href=x>Prev</a> <a>Next</a></div><p>text</p><nav>a<nav>b</nav>c</nav>") == "text");
  CHECK(html_text("<div class=\"x nav-links\"><a>a</a></div><div role='navigation'>b</div><div class=navy>blue</div>") == "blue");
  // Named like navigation, but full of text.
  const std::string page = repeated("words ", 100);
  CHECK(html_text("<div class=nav>" + page + "</div>") == page.substr(0, page.size() - 1));
}

TEST_CASE("character references", "[html]") {
  CHECK(html_text("&lt;&gt;&amp;&quot;&apos;&mdash;&eacute;&#8212;&#x2014;&#128512;&#x80;") ==
        "<>&\"'\u2014\u00e9\u2014\u2014\U0001F600\u20ac");
  CHECK(html_text("AT&T &nosuch; &amp &; &#; &#x; &#xFFFFFFFFFF; &#0; &#xD800; a&b;") ==
        "AT&T &nosuch; &amp &; &#; &#x; &#xFFFFFFFFFF; \uFFFD \uFFFD a&b;");
  CHECK(html_text("1 < 2 && 3 > 2 <3") == "1 < 2 && 3 > 2 <3");
  CHECK(character_reference("&thetasym;x").length == 10);
  CHECK(character_reference("&thetasym").code == 0);
}

TEST_CASE("attributes hide no text and show none", "[html]") {
  CHECK(html_text("<p title=\"a > b\" x='</p>' y=>z</p>w") == "z\n\nw");
  CHECK(html_text("<a href=x/y>t</a><img alt='no'>u<p/>v") == "tu\n\nv");
  CHECK(html_text("<?xml version=\"1.0\"?><p>a<script/>b</p><div/>c") == "ab\n\nc");
  CHECK(html_text("a<p") == "a");
  CHECK(html_text("a<p title=\"") == "a");
  CHECK(html_text("a</") == "a</");
  CHECK(html_text("a<") == "a<");
  CHECK(html_text("a</>b") == "ab");
  CHECK(html_text("") == "");
}

TEST_CASE("what is never closed ends with the page", "[html]") {
  CHECK(html_text("a<p>b<b>c<pre>d  e") == "a\n\nbc\n\nd  e");
  CHECK(html_text("</p></ul></table></pre></nav>a</td></p>b") == "a\n\nb");
  CHECK(html_text("a<script>b") == "a");
  CHECK(html_text("a<!-- b") == "a");
  CHECK(html_text("a<svg>b") == "ab");
  for (const char* name : {"button", "nav", "object", "select", "svg", "video"})
    CHECK(html_text(cat("a <", name, ">b</x> <p>c<", name, ">d</", name, "> e")) == "a b\n\ncd e");
  CHECK(html_text("<div class=nav><a>a</a><div>b</div> c") == "a\nb\nc");
}

TEST_CASE("an empty svg, or one within another, ends where it says", "[html]") {
  CHECK(html_text("a<svg/>b<svg width='1' />c") == "abc");
  CHECK(html_text("a<svg>no<svg/>no<svg x='y' />no</svg>b") == "a b");
  CHECK(html_text("a<svg><title/><style/><path/>no</svg>b<title>no</title>c") == "a bc");
  CHECK(html_text("<?xml version=\"1.0\"?><p>a<nav>no<nav/>no</nav>b</p>") == "a\nb");
  CHECK(html_text("a<button/>b</button>c") == "a c");  // in HTML, "/" ends an element of no other kind
}

// Each of these takes a quadratic or recursive reader down. CPU time per byte must be that of plain text, give or take.
TEST_CASE("bombs cost their length", "[html]") {
  constexpr std::size_t kTimes = 100000;
  const auto seconds_of = [](const std::string& page) {
    double best = 1e9;
    for (int round = 0; round < 3; ++round) {
      const double begin = cpu_seconds();
      const std::string text = html_text(page);
      best = std::min(best, cpu_seconds() - begin);
      CHECK(text.size() <= 4 * page.size());
    }
    return best;
  };
  const char* parts[] = {"<div>",
                         "<ul>",
                         "<ol><li>",
                         "<table><tr><td>",
                         "<pre>",
                         "<nav>",
                         "<a>",
                         "<b>",
                         "<svg>",
                         "<div class=nav>",
                         "</div>",
                         "<!--",
                         "<![CDATA[",
                         "<script>",
                         "</script>",
                         "<p",
                         "<p a='",
                         "<",
                         "</",
                         "&",
                         "&#",
                         "&amp;",
                         "\xC2",
                         "<td>x",
                         "<li>x",
                         "<br>",
                         "<script></",
                         "<a b=",
                         "<table>",
                         "<nav></nav>",
                         "<div class=nav>x</div>",
                         "=",
                         " ",
                         "<!>",
                         "<?"};
  for (const char* part : parts) {
    INFO(part);
    // Eight times the page may take eight times as long, not 64: half-way between them, on a logarithmic scale, is the border.
    const double small = seconds_of(repeated(part, kTimes / 8)), large = seconds_of(repeated(part, kTimes));
    CHECK(large < 22 * small + 0.02);
    CHECK(large < 2);
  }
}

TEST_CASE("random markup is survived", "[html]") {
  const char* parts[] = {
      "<div>",  "</div>", "<ul>",   "<li>",  "</ul>",    "<table>",    "<tr>", "<td>", "</td>",    "</table>", "<pre>",
      "</pre>", "<nav>",  "</nav>", "<svg>", "</svg>",   "<a href=\"", "\">",  "<!--", "-->",      "text",     " ",
      "\n",     "&amp;",  "&#1",    ";",     "<script>", "</script>",  "<",    ">",    "\xC2\xA0", "\xC2",     "<div class=nav>",
      "<br/>",  "<ol>",   "=",      "'",     "<p",       "/"};
  std::uint64_t state = 1;
  for (int page = 0; page < 20000; ++page) {
    std::string html = page % 5 == 0 ? "<?xml?>" : "";
    for (int i = 0; i < 30; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      html += parts[(state >> 33) % std::size(parts)];
    }
    const std::string text = html_text(html);
    CHECK(text.size() <= 3 * html.size());
  }
}

// The real pages, when scripts/setup quickstart has brought them (scripts/test has).
TEST_CASE("pages of the PostgreSQL manual", "[html]") {
  const char* base = std::getenv("GRAFT_SMOLLM2_GGUF");
  const fs::path pages = base ? fs::path(base).parent_path() / "postgresql-doc-15/html" : fs::path();
  if (!base || !fs::exists(pages)) {
    WARN("GRAFT_SMOLLM2_GGUF is not set or no manual lies beside it: left out");
    return;
  }
  std::size_t files = 0, bytes = 0;
  for (const auto& entry : fs::directory_iterator(pages)) {
    if (entry.path().extension() != ".html") continue;
    const std::string text = html_text(get(entry.path()));
    ++files;
    bytes += text.size();
    INFO(entry.path());
    for (const char* markup : {"<div class=", "<span class=", "<code class=", "&nbsp;", "stylesheet.css"})
      CHECK(text.find(markup) == std::string::npos);
  }
  CHECK(files > 1000);
  CHECK(bytes > 6'000'000);
  const std::string page = html_text(get(pages / "sql-altertable.html"));
  for (const char* yes : {"ALTER TABLE [ IF EXISTS ] [ ONLY ] name [ * ]\n    action [, ... ]",
                          "ALTER TABLE distributors RENAME TO suppliers;", "The RENAME forms change the name of a table"})
    CHECK(page.find(yes) != std::string::npos);
}
