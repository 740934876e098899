// What prepare() makes of each kind of document.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "data/find_files.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;
using namespace std::string_literals;

namespace {

using Texts = std::vector<std::string>;

// The one document that a file gives.
std::string text_of(const std::string& name, std::string_view content) {
  Corpora corpora;
  corpora.source(corpora.document(name, content));
  CHECK(conserved(corpora.prepare()));
  const Texts texts = corpora.texts();
  REQUIRE(texts.size() == 1);
  return texts[0];
}

}  // namespace

TEST_CASE("a text file is one document", "[prepare]") {
  CHECK(text_of("a.txt", "\xEF\xBB\xBF first \r\nsecond\t \rthird\n\n\n\n\n\nfourth\n\n") == " first\nsecond\nthird\n\n\nfourth");
  CHECK(text_of("A.TEXT", "upper case\x01 name\x7F") == "upper case name");
}

TEST_CASE("Markdown loses its front matter and comments, code keeps them", "[prepare]") {
  CHECK(text_of("a.md", "---\ntitle: x\n---\n# Head\n\ntext <!-- hidden\nlines --> more\n```\n<!-- shown -->\n```\n") ==
        "# Head\n\ntext  more\n```\n<!-- shown -->\n```");
  CHECK(text_of("b.markdown", "rule\n---\nno front matter <!-- never closed") == "rule\n---\nno front matter <!-- never closed");
}

TEST_CASE("HTML is read as text", "[prepare]") {
  CHECK(text_of("a.html", "<html><head><title>no</title></head><body><p>One &amp; two</p><p>three</body>") ==
        "One & two\n\nthree");
}

TEST_CASE("jsonl gives a document per line, from the field by name", "[prepare]") {
  Corpora corpora;
  SourceConfig& source = corpora.source(corpora.document("a.jsonl",
                                                         "{\"body\":{\"text\":\"nested\"},\"n\":1}\n\n{\"body.text\":\"dotted\"}"
                                                         "\n{\"text\":\"other field\"}\n[1]\n{\"body\":{\"text\":7}}\n"
                                                         "{\"body\":\n{\"body\":{\"text\":\"no newline at the end\"}}"));
  source.text_field = "body.text";
  const PrepareReport report = corpora.prepare();
  CHECK(corpora.texts() == Texts{"nested", "dotted", "no newline at the end"});
  CHECK(report.documents_read == 7);
  CHECK(conserved(report));
  CHECK(report.dropped_documents ==
        std::map<std::string, std::int64_t>{{"bad JSON line", 1}, {"missing text field", 2}, {"text field is no text", 1}});
}

TEST_CASE("jsonl conversations carry loss on the answers alone", "[prepare]") {
  Corpora corpora;
  corpora.config.min_bytes = 20;  // no conversation here has as many
  corpora.source(
      corpora.document("chat.jsonl", R"({"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"cd"}]}
{"messages":[{"role":"user","content":"only a question"}]}
{"messages":[{"role":"user","content":"x"},{"role":"system","content":"late"}]}
{"messages":[{"role":"tool","content":"x"},{"role":"assistant","content":"y"}]}
{"messages":[{"role":"user"}]}
{"messages":[]}
{"text":"plain text beside them"}
)"));
  const PrepareReport report = corpora.prepare();
  CHECK(conserved(report));
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"bad conversation", 2},
                                                                        {"conversation that the chat template cannot express", 2},
                                                                        {"conversation without an assistant's words", 1}});
  CHECK(report.dropped_tokens.at("conversation without an assistant's words") > 0);
  const auto corpus = Corpus::open(corpora.config.dir, "train", "");
  REQUIRE(corpus->documents() == 2);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(corpus->document(0).tokens));
  std::vector<std::uint8_t> loss(ids.size());
  corpus->read(0, 0, ids, loss);
  CHECK(corpora.tokenizer.decode(ids, true) == "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\ncd<|im_end|>\n");
  std::vector<std::int32_t> trained;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (loss[i]) trained.push_back(ids[i]);
  CHECK(trained == std::vector<std::int32_t>{'c', 'd', 257});
  CHECK(corpus->document(0).bytes == 2);  // of "cd": bits per byte must not be diluted by a question that is not predicted
  ids.resize(static_cast<std::size_t>(corpus->document(1).tokens));
  loss.assign(ids.size(), 0);
  corpus->read(1, 0, ids, loss);
  CHECK(std::count(loss.begin(), loss.end(), 1) == static_cast<std::ptrdiff_t>(ids.size()));
  CHECK(ids.back() == 257);
}

TEST_CASE("bytes of a conversation are those that loss falls on", "[prepare]") {
  Corpora corpora;
  const std::string turns = R"({"role":"user","content":"Größe?"},{"role":"assistant","content":"über 3"},)"
                            R"({"role":"user","content":"Sure?"},{"role":"assistant","content":"yes"}]})";
  corpora.source(
      corpora.document("chat.jsonl", R"({"messages":[{"role":"system","content":"Be brief."},)" + turns + "\n" +
                                         R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":""}]})"));
  const PrepareReport report = corpora.prepare();
  CHECK(report.bytes == 7 + 3);  // "über 3" and "yes"
  const auto corpus = Corpus::open(corpora.config.dir, "train", "");
  REQUIRE(corpus->documents() == 1);
  const Document document = corpus->document(0);
  CHECK(document.bytes == 10);
  // A tokenizer of bytes: as many targets, and one for the end of each turn.
  std::vector<std::uint8_t> loss(static_cast<std::size_t>(document.tokens));
  corpus->read(0, 0, {}, loss);
  CHECK(std::count(loss.begin(), loss.end(), 1) == 10 + 2);
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"conversation without an assistant's words", 1}});
}

TEST_CASE("a field names the document, so that lines may move", "[prepare]") {
  Corpora corpora;
  const std::string file =
      corpora.document("a.jsonl", "{\"id\":\"x\",\"text\":\"first\"}\n{\"id\":7,\"text\":\"second\"}\n{\"text\":\"third\"}\n");
  corpora.source(file).id_field = "id";
  CHECK(corpora.prepare().dropped_documents == std::map<std::string, std::int64_t>{{"missing id field", 1}});
  put(file, "{\"id\":7,\"text\":\"second\"}\n{\"id\":\"x\",\"text\":\"changed\"}\n");
  const PrepareReport again = corpora.prepare();
  CHECK(again.unchanged_documents == 1);
  CHECK(again.changed_documents == 1);
  CHECK(corpora.texts() == Texts{"first", "second", "changed"});
}

TEST_CASE("gz of every format is the same as the file", "[prepare]") {
  Corpora plain, zipped;
  const std::pair<std::string, std::string> files[] = {
      {"a.txt", "text of a"}, {"b.md", "# of b"}, {"c.html", "<p>of c"}, {"d.jsonl", "{\"text\":\"of d\"}\n"}};
  for (const auto& [name, content] : files) {
    plain.document(name, content);
    fs::create_directories(zipped.dir / "docs");
    put_gzip(zipped.dir / ("docs/" + name + ".gz"), content);
  }
  plain.source((plain.dir / "docs").string());
  zipped.source((zipped.dir / "docs").string());
  plain.prepare();
  zipped.prepare();
  CHECK(plain.texts() == Texts{"text of a", "# of b", "of c", "of d"});
  CHECK(zipped.texts() == plain.texts());
}

TEST_CASE("gzip that is damaged, cut, or a bomb gives up that file alone", "[prepare]") {
  Corpora corpora;
  corpora.document("good.txt", "a good document");
  put_gzip(corpora.dir / "docs/cut.txt.gz", "some text that is cut off somewhere in its middle, where no block ends");
  const std::string whole = get(corpora.dir / "docs/cut.txt.gz");
  put(corpora.dir / "docs/cut.txt.gz", whole.substr(0, whole.size() / 2));
  put(corpora.dir / "docs/no.txt.gz", "not gzip at all");
  put(corpora.dir / "docs/nothing.txt.gz", "");
  put_gzip(corpora.dir / "docs/bomb.jsonl.gz", std::string(64 << 20, '\n'));
  corpora.source((corpora.dir / "docs").string());
  const PrepareReport report = corpora.prepare();
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"unreadable file", 4}});
  CHECK(conserved(report));
  CHECK(corpora.texts() == Texts{"a good document"});
}

TEST_CASE("folders are read recursively, globs by component, hidden files never", "[prepare]") {
  Corpora corpora;
  for (const char* name : {"a.txt", "b/c.txt", "b/d/e.md", "b/d/f.txt", "b/g.pdf", ".hidden.txt", "b/.git/x.txt"})
    corpora.document(name, std::string("document ") + name);
  fs::create_directory_symlink(corpora.dir / "docs", corpora.dir / "docs/b/loop");
  const auto found = [&](const std::string& path) {
    Corpora reader;
    reader.source((corpora.dir / path).string());
    const PrepareReport report = reader.prepare();
    CHECK(conserved(report));
    return reader.texts();
  };
  CHECK(found("docs") == Texts{"document a.txt", "document b/c.txt", "document b/d/e.md", "document b/d/f.txt"});
  CHECK(found("docs/*.txt") == Texts{"document a.txt"});
  CHECK(found("docs/**/*.txt") == Texts{"document a.txt", "document b/c.txt", "document b/d/f.txt"});
  CHECK(found("docs/**/**/d/*.[mt]*") == Texts{"document b/d/e.md", "document b/d/f.txt"});
  CHECK(found("docs/?/c.txt") == Texts{"document b/c.txt"});
  CHECK(found("docs/b/**") == Texts{"document b/c.txt", "document b/d/e.md", "document b/d/f.txt"});

  const fs::path before = fs::current_path();
  fs::current_path(corpora.dir / "docs");
  const auto relative = find_files("**/*.txt"), plain = find_files("*.txt");
  fs::current_path(before);
  CHECK(relative == Texts{"a.txt", "b/c.txt", "b/d/f.txt"});
  CHECK(plain == Texts{"a.txt"});
}

TEST_CASE("a file of another type is counted, or read when its format is told", "[prepare]") {
  Corpora corpora;
  corpora.document("a.txt", "text");
  corpora.document("b.log", "a log");
  SourceConfig& source = corpora.source((corpora.dir / "docs").string());
  const PrepareReport report = corpora.prepare();
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"unknown file type .log", 1}});
  CHECK(conserved(report));
  source.format = "text";
  CHECK(corpora.prepare().documents_kept == 1);
  CHECK(corpora.texts() == Texts{"text", "a log"});
}

TEST_CASE("unknown types are told apart, a few dozens of them", "[prepare]") {
  Corpora corpora;
  corpora.document("a.txt", "text");
  for (const char* name : {"a.pdf", "b.PDF", "c.pdf.gz", "d.docx", "none", "e.a name", "f.thirteenletters", "g.x-y"})
    corpora.document(name, "");
  corpora.source((corpora.dir / "docs").string());
  CHECK(corpora.prepare().dropped_documents == std::map<std::string, std::int64_t>{{"unknown file type", 4},
                                                                                   {"unknown file type .docx", 1},
                                                                                   {"unknown file type .pdf", 3}});
  for (int i = 0; i < 100; ++i) corpora.document(cat("many.x", i), "");
  const PrepareReport report = corpora.prepare();
  CHECK(conserved(report));
  CHECK(report.documents_read == 1 + 8 + 100);
  CHECK(report.dropped_documents.size() <= 42);
}

TEST_CASE("folders that are not looked into are counted", "[prepare]") {
  Corpora corpora, elsewhere;
  corpora.document("a/b.txt", "text");
  elsewhere.document("c.txt", "linked text");
  fs::create_directory_symlink(elsewhere.dir / "docs", corpora.dir / "docs/a/link");
  fs::create_directory_symlink(corpora.dir / "docs", corpora.dir / "docs/loop");
  fs::create_directory_symlink("nowhere", corpora.dir / "docs/broken");
  // A path beyond PATH_MAX cannot be opened, even by the superuser.
  const std::string name(250, 'd');
  int at = ::open((corpora.dir / "docs").c_str(), O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < 17; ++i) {
    REQUIRE(::mkdirat(at, name.c_str(), 0700) == 0);
    const int below = ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY);
    ::close(at);
    at = below;
  }
  ::close(at);
  corpora.source((corpora.dir / "docs").string());
  std::map<std::string, std::int64_t> skipped{{"linked folder, not followed", 2}, {"unreadable folder", 1}, {"broken link", 1}};
  PrepareReport report = corpora.prepare();
  CHECK(report.dropped_documents == skipped);
  CHECK(conserved(report));
  skipped.erase("broken link");  // it does not match the pattern
  corpora.config.sources[0].path = (corpora.dir / "docs/**/*.txt").string();
  CHECK(corpora.prepare().dropped_documents == skipped);
  corpora.source((corpora.dir / "docs/a/link").string());  // the remedy
  report = corpora.prepare();
  CHECK(report.documents_kept == 1);
  CHECK(corpora.texts() == Texts{"text", "linked text"});
}

TEST_CASE("hidden files, broken links and what is no file are counted where they would have been read", "[prepare]") {
  Corpora corpora;
  for (const char* name : {"a.txt", ".b.txt", ".c.md", "d/.e.txt", "d/.git/f.txt", "d/.git/g.txt"})
    corpora.document(name, cat("document ", name));
  fs::create_symlink("nowhere", corpora.dir / "docs/h.txt");
  fs::create_symlink("i.txt", corpora.dir / "docs/i.txt");  // a ring
  fs::create_symlink("a.txt", corpora.dir / "docs/.j");
  REQUIRE(::mkfifo((corpora.dir / "docs/k.txt").c_str(), 0600) == 0);
  const auto dropped = [&](const std::string& path) {
    Corpora reader;
    reader.source((corpora.dir / path).string());
    const PrepareReport report = reader.prepare();
    CHECK(conserved(report));
    CHECK(reader.texts() == Texts{"document a.txt"});
    return report.dropped_documents;
  };
  using Reasons = std::map<std::string, std::int64_t>;
  // .b.txt, .c.md, d/.e.txt, d/.git, .j
  CHECK(dropped("docs") == Reasons{{"hidden file or folder", 5}, {"broken link", 2}, {"not a regular file", 1}});
  CHECK(dropped("docs/*.txt") == Reasons{{"hidden file or folder", 1}, {"broken link", 2}, {"not a regular file", 1}});
  // .b.txt, d/.e.txt and the folder d/.git
  CHECK(dropped("docs/**/*.txt") == Reasons{{"hidden file or folder", 3}, {"broken link", 2}, {"not a regular file", 1}});
  CHECK(dropped("docs/a*") == Reasons{});
}

TEST_CASE("invalid UTF-8 is replaced and counted, or its document dropped", "[prepare]") {
  // As Python's bytes.decode(errors="replace"): one U+FFFD per maximal invalid part.
  const std::string good(1300, 'x');  // 13 characters lost of some more than 1300 are fewer than 1 %
  const std::string bad = "a\xFF\xC3(\xE2\x82x\xF0\x9F\x98y\xED\xA0\x80z\xC0\xAF.\xF4\x90\x80\x80" + good;
  const std::string fffd = "\xEF\xBF\xBD";
  const auto times = [&](int n) {
    std::string out;
    while (n-- > 0) out += fffd;
    return out;
  };
  Corpora corpora;
  corpora.source(corpora.document("a.txt", bad));
  corpora.source(corpora.document("b.txt", "good \xF0\x9F\x98\x80"));
  PrepareReport report = corpora.prepare();
  CHECK(corpora.texts() ==
        Texts{"a" + times(2) + "(" + times(1) + "x" + times(1) + "y" + times(3) + "z" + times(2) + "." + times(4) + good,
              "good \xF0\x9F\x98\x80"});
  CHECK(report.replaced_sequences == 13);
  Corpora strict;
  strict.config.invalid_utf8 = "reject";
  strict.source(corpora.config.sources[0].path);
  strict.source(corpora.config.sources[1].path);
  report = strict.prepare();
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"invalid UTF-8", 1}});
  CHECK(report.replaced_sequences == 0);
  CHECK(strict.texts() == Texts{"good \xF0\x9F\x98\x80"});
}

TEST_CASE("other encodings are decoded where they are declared", "[prepare][encoding]") {
  // Bytes as Python's str.encode gives them. U+670A holds the byte of a newline.
  CHECK(text_of("le.txt", "\xFF\xFEG\0r\0\xFC\0\xDF\0e\0 \0\x0A\x67\x3D\xD8\x80\xDE\n\0x\0"s) == "Grüße \u670A\U0001F680\nx");
  CHECK(text_of("be.md", "\xFE\xFF\0#\0 \0\xFC\x20\x13"s) == "# ü\u2013");
  CHECK(text_of("le.html", "\xFF\xFE<\0p\0>\0\xE9\0<\0/\0p\0>\0"s) == "é");
  const auto page = [](const std::string& head, const std::string& body) {
    return text_of("a.html", "<html><head>" + head + "</head><body>" + body);
  };
  CHECK(page("<META CHARSET=\"ISO-8859-1\">", "Gr\xFC\xDF \x96 \x80") == "Grüß \u2013 \u20ac");  // windows-1252, as in browsers
  CHECK(page("<meta name=x><meta http-equiv=\"Content-Type\" content='text/html; charset = windows-1251'>", "\xC4\xE0") == "Да");
  CHECK(page("<meta charset=shift_jis>", "\x8A\xBF\x8E\x9A") == "漢字");
  CHECK(page("<meta charset=gb2312>", "\xBA\xBA\xD7\xD6") == "汉字");
  CHECK(page("<meta charset=iso-8859-2>", "\xBEl\xFD") == "žlý");
  CHECK(page("<meta charset=iso-2022-jp>", "\x1B$B4A;z\x1B(B") == "漢字");
  CHECK(page("<meta charset=big5>", "\xBA\x7E\xA6\x72") == "漢字");
  CHECK(text_of("x.xhtml", "<?xml version='1.0' encoding='koi8-r'?><p>\xE4\xC1</p>") == "Да");
  // What is UTF-8 is that, whatever it says; and the declaration must stand in front.
  CHECK(page("<meta charset=iso-8859-1>", "Grüß") == "Grüß");
  CHECK(text_of("b.html", std::string(2000, 'x') + "\xFC<meta charset=iso-8859-1>") == std::string(2000, 'x') + "\uFFFD");
  // What an encoding cannot express is counted as elsewhere.
  Corpora corpora;
  corpora.source(corpora.document("a.html", "<meta charset=windows-1252>" + std::string(300, 'x') + "\xFC\x81"));
  corpora.source(corpora.document(
      "b.txt", "\xFF\xFE" + [] {
        std::string pairs;
        for (int i = 0; i < 300; ++i) pairs += "y\0"s;
        return pairs;
      }() + "\0\xDCz\0q"s));  // half a surrogate pair, and half a unit at the end
  CHECK(corpora.prepare().replaced_sequences == 3);
  CHECK(corpora.texts() == Texts{std::string(300, 'x') + "ü\uFFFD", std::string(300, 'y') + "\uFFFDz\uFFFD"});
}

TEST_CASE("a document in an encoding that is not known is dropped, not learned", "[prepare][encoding]") {
  Corpora corpora;
  corpora.document("a.txt",
                   "Gr\xFC\xDF"
                   "e aus M\xFCnchen");  // Latin-1, which a text file cannot say
  corpora.document("b.html", "<meta charset=x-unknown><p>\xFC\xFC</p>");
  corpora.document("c.jsonl", "{\"text\":\"\xFC\xFC\"}\n{\"messages\":[{\"role\":\"assistant\",\"content\":\"\xFC\"}]}\n");
  corpora.document("d.txt", std::string(99, 'x') + "\xFC");                         // one in a hundred
  corpora.document("e.txt", std::string(98, 'x') + "\xFC");                         // more than that
  corpora.document("f.html", "<p title='" + std::string(500, 'x') + "'>\xFC</p>");  // of the text, not of its markup
  corpora.source((corpora.dir / "docs").string());
  const PrepareReport report = corpora.prepare();
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"not UTF-8", 6}});
  CHECK(report.replaced_sequences == 1);
  CHECK(conserved(report));
  CHECK(corpora.texts() == Texts{std::string(99, 'x') + "\uFFFD"});
}

TEST_CASE("a long text becomes parts that add up to it", "[prepare][long]") {
  Corpora corpora;
  std::string text;
  for (int line = 0; text.size() < (40u << 20); ++line) text += "line " + std::to_string(line) + " of a long file\n";
  corpora.source(corpora.document("long.txt", text));
  const PrepareReport report = corpora.prepare();
  CHECK(report.documents_kept == 3);
  std::string joined;
  for (const std::string& part : corpora.texts()) joined += part + "\n";
  CHECK((joined == text));  // without the 40 MB in the message
}

TEST_CASE("UTF-16 too long to be cut is dropped whole", "[prepare][long]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "kept"));
  corpora.source(corpora.document("long.txt", "\xFF\xFE" + std::string((16 << 20) + 2, 'x')));
  CHECK(corpora.prepare().dropped_documents == std::map<std::string, std::int64_t>{{"UTF-16 text too large", 1}});
  CHECK(corpora.texts() == Texts{"kept"});
}
