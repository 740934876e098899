// What prepare() says of documents that it drops: which and why, never a word of them.
#include <sstream>

#include "tests/data/support.h"
#include "tests/support/log_of.h"

using namespace graft;
using namespace graft::data;

namespace {

using Texts = std::vector<std::string>;

// The warnings of prepare(), without the path of the documents.
Texts warnings(Corpora& corpora) {
  std::istringstream log(testing::log_of([&] { CHECK(conserved(corpora.prepare())); }));
  const std::string begin = "[prepare] warning: ", docs = (corpora.dir / "docs/").string();
  Texts found;
  for (std::string line; std::getline(log, line);)
    if (line.starts_with(begin + docs)) found.push_back(line.substr(begin.size() + docs.size()));
  return found;
}

std::string chat(const std::string& messages) { return "{\"messages\":[" + messages + "]}\n"; }

}  // namespace

TEST_CASE("a dropped line is named, with what is wrong", "[prepare][dropped]") {
  Corpora corpora;
  corpora.config.min_bytes = 3;
  const std::string question = R"({"role":"user","content":"q"},)";
  corpora.source(corpora.document(
      "a.jsonl",
      "{\"text\":\"good one\"}\n{\"text\": tru}\n\n{\"other\":1}\n{\"text\":[1]}\n{\"text\":\"\"}\n{\"text\":\"xy\"}\n" +
          chat(question + R"({"content":"a"})") + chat(question + R"({"role":"assistant","content":null})") +
          chat(question + R"({"role":"tool","content":"a"})") + chat(question + R"({"role":"system","content":"s"})") +
          chat(question + R"({"role":"user","content":"a"})") + chat("") + "{\"text\":\"\xFC\xFC\xFC\"}\n"));
  CHECK(warnings(corpora) ==
        Texts{"a.jsonl:2: dropped: bad JSON line (byte 13)", "a.jsonl:4: dropped: missing text field (text_field is 'text')",
              "a.jsonl:5: dropped: text field is no text", "a.jsonl:8: dropped: bad conversation (message 2 has no role)",
              "a.jsonl:9: dropped: bad conversation (message 2 has no content, or one that is not text alone)",
              "a.jsonl:10: dropped: conversation that the chat template cannot express (message 2 has a role other than system, "
              "user and assistant)",
              "a.jsonl:11: dropped: conversation that the chat template cannot express (message 2 is a system message; only the "
              "first may be)",
              "a.jsonl:12: dropped: conversation without an assistant's words",
              "a.jsonl:13: dropped: bad conversation (no list of messages)",
              "a.jsonl:14: dropped: not UTF-8 (nor an encoding that it declares)",
              "a.jsonl: 12 of 13 documents were dropped; do its format and fields fit?"});
}

TEST_CASE("the first twenty of a reason are named; copies, empty and short documents never", "[prepare][dropped]") {
  Corpora corpora;
  corpora.config.min_bytes = 8;
  std::string lines;
  for (int i = 0; i < 30; ++i) lines += cat("{\n{\"text\":\"\"}\n{\"text\":\"short\"}\n{\"text\":\"the same\"}\n");
  corpora.source(corpora.document("a.jsonl", lines));
  corpora.source(corpora.document("b.jsonl", "{\"text\":\"half of it\"}\n{\"text\":0}\n"));
  const Texts said = warnings(corpora);
  REQUIRE(said.size() == 20 + 2);
  CHECK(said[0] == "a.jsonl:1: dropped: bad JSON line (byte 2)");
  CHECK(said[18] == "a.jsonl:73: dropped: bad JSON line (byte 2)");
  CHECK(said[19] == "a.jsonl:77: dropped: bad JSON line (byte 2); further ones are counted only");
  CHECK(said[20] == "b.jsonl:2: dropped: text field is no text");
  CHECK(said[21] ==
        "a.jsonl: 90 of 120 documents were dropped; do its format and fields fit?");  // b.jsonl lost no more than half
}

TEST_CASE("a folder that is mostly of other types says so at once; hidden files and a half are no reason", "[prepare][dropped]") {
  Corpora corpora;
  corpora.document("a.txt", "kept");
  corpora.document("b.pdf", "");
  corpora.document(".git/c.txt", "");
  corpora.document(".d", "");
  corpora.source((corpora.dir / "docs").string());
  const auto log = [&] { return testing::log_of([&] { CHECK(conserved(corpora.prepare())); }); };
  CHECK(log().find("warning") == std::string::npos);
  corpora.document("c.PDF", "");
  corpora.document("d.docx", "");
  const std::string said = log();
  INFO(said);
  CHECK(
      said.find(cat((corpora.dir / "docs").string(),
                    ": only 1 of its 4 files are read; 1 unknown file type .docx, 2 unknown file type .pdf; convert them to text "
                    "first (pdftotext, pandoc -t plain, soffice --convert-to txt)\n")) != std::string::npos);
  CHECK(said.find("were dropped; do its format") == std::string::npos);
}

TEST_CASE("no word of a dropped document is logged", "[prepare][dropped]") {
  const std::string secret = "\"xylophone; expected xylophone\"";
  Corpora corpora;
  std::string lines = "{\"text\":\"good\"}\n";
  for (const std::string& line :
       {cat("{\"text\":\"; expected xylophone\x01\"}"), cat("{", secret, ":1,", secret, ":2}"), cat("{\"text\":", secret, ",}"),
        cat("[", secret, "]"), secret, cat("{\"text\":{", secret, ":1}}"), cat("{\"messages\":", secret, "}"),
        cat("{\"messages\":[{\"role\":", secret, ",\"content\":", secret, "}]}"),
        cat("{\"conversations\":[{\"from\":", secret, ",\"value\":", secret, "}]}"),
        cat("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":", secret, ",\"text\":", secret, "}]}]}")})
    lines += line + "\n";
  corpora.source(corpora.document("a.jsonl", lines));
  const std::string log = testing::log_of([&] { CHECK(corpora.prepare().documents_kept == 1); });
  CHECK(log.find("a.jsonl:2: dropped: bad JSON line (byte ") != std::string::npos);
  CHECK(log.find("a.jsonl:11: dropped: bad conversation") != std::string::npos);
  CHECK(log.find("xylophone") == std::string::npos);
}

TEST_CASE("ShareGPT's conversations and OpenAI's lists of text parts are the conversations that they mean", "[prepare]") {
  const auto text_of = [](const std::string& line, const std::string& messages_field = "messages") {
    Corpora corpora;
    corpora.source(corpora.document("a.jsonl", line)).messages_field = messages_field;
    corpora.prepare();
    return corpora.texts().at(0);
  };
  const std::string same = text_of(
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"u\nv"},{"role":"assistant","content":"a"}]})");
  REQUIRE(same == "system\ns\nuser\nu\nv\nassistant\na\n");
  const std::string sharegpt = R"(:[{"from":"system","value":"s"},{"from":"human","value":"u\nv"},{"from":"gpt","value":"a"}]})";
  CHECK(text_of("{\"conversations\"" + sharegpt) == same);
  CHECK(text_of("{\"dialog\"" + sharegpt, "dialog") == same);
  CHECK(text_of(R"({"messages":[{"role":"system","content":[{"type":"text","text":"s"}]},{"role":"user","content":[)"
                R"({"type":"text","text":"u"},{"type":"text","text":"v"}]},{"role":"assistant","content":"a"}]})") == same);
  // A text that was read before stays what it is.
  CHECK(text_of("{\"text\":\"plain\",\"conversations\"" + sharegpt) == "plain");
  Corpora corpora;
  corpora
      .source(corpora.document("a.jsonl", "{\"conversations\"" + sharegpt + "\n{\"text\":\"plain\"}\n" +
                                              R"({"dialog":[{"role":"user","content":[{"type":"image_url","image_url":"x"}]}]})"))
      .messages_field = "dialog";
  CHECK(corpora.prepare().dropped_documents ==
        std::map<std::string, std::int64_t>{{"bad conversation", 1}, {"missing text field", 1}});
}
