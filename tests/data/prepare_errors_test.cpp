// What prepare() refuses: with a named reason, and nothing left in the corpus directory.
#include "data/corpus_writer.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

void refused(Corpora& corpora, const std::string& message) {
  CHECK(message_of<UserError>([&] { corpora.prepare(); }) == message);
  CHECK(corpora.files().empty());
}

}  // namespace

TEST_CASE("nothing to read is named", "[prepare][errors]") {
  Corpora none;
  refused(none, "corpus.sources is empty: name at least one file, folder or pattern");
  Corpora empty;
  fs::create_directories(empty.dir / "docs/inner");
  empty.source((empty.dir / "docs").string());
  refused(empty, (empty.dir / "docs").string() + ": the folder holds no files");
  Corpora glob;
  glob.source((glob.dir / "docs/**/*.md").string());
  refused(glob, (glob.dir / "docs/**/*.md").string() + ": the pattern matches no file");
  Corpora missing;
  missing.source((missing.dir / "docs").string());
  refused(missing, cat((missing.dir / "docs").string(), ": no such file or folder; it is looked up from the working directory ",
                       fs::current_path().string()));
  Corpora pdf;
  pdf.document("a.pdf", "");
  pdf.document("b.docx", "");
  pdf.source((pdf.dir / "docs").string());
  const std::string unread = ": none of its 2 files ends in .txt, .md, .html or .jsonl (or these with .gz); ";
  refused(pdf, cat((pdf.dir / "docs").string(), unread,
                   "convert them to text first (pdftotext, pandoc -t plain, soffice --convert-to txt)"));
  Corpora logs;
  logs.document("a.log", "");
  logs.document("b.cfg", "");
  logs.source((logs.dir / "docs").string());
  refused(logs, cat((logs.dir / "docs").string(), unread, "set 'format' where they are text all the same"));
}

TEST_CASE("everything filtered is named with the reasons", "[prepare][errors]") {
  Corpora corpora;
  corpora.config.min_bytes = 10;
  corpora.document("a.txt", "short");
  corpora.document("b.txt", "brief");
  corpora.document("c.txt", "\n");
  corpora.document("d.html", "<script>let long_enough = 'but no text';</script>");
  corpora.source((corpora.dir / "docs").string());
  refused(corpora, "no document is left of 4 that were read: 2 empty, 2 shorter than min_bytes; nothing was written");
}

TEST_CASE("a corpus of one token is nothing to train on", "[prepare][errors]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "x"));
  refused(corpora, "no document is left of 1 that were read: 1 single token; nothing was written");
}

TEST_CASE("a tokenizer larger than the base's vocabulary is refused before anything is read", "[prepare][errors]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "some document"));
  const auto run = [&](std::int64_t vocab) { data::prepare(corpora.config, corpora.tokenizer, vocab, 1); };
  CHECK(message_of<DataError>([&] { run(258); }) ==
        "byte-tokenizer: the tokenizer has 259 ids, the base model embeds 258; use the tokenizer that belongs to the base");
  CHECK(!fs::exists(corpora.config.dir));
  run(259);  // it fits, and a base may embed more
  run(300);
}

TEST_CASE("a corpus of another tokenizer is left alone", "[prepare][errors]") {
  struct Other : ByteTokenizer {
    Other() { hash_ = sha256_hex("other"); }
  };
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "some document"));
  corpora.prepare();
  const auto files = corpora.files();
  const std::string shard = files[1], theirs = sha256_hex("other"), ours = corpora.tokenizer.hash();
  CHECK(message_of<DataError>([&] { data::prepare(corpora.config, Other(), 0, 1); }) ==
        cat(corpora.config.dir, ": shard ", shard, " was made with tokenizer ", ours.substr(0, 16), "..., the model's is ",
            theirs.substr(0, 16), "...; use another 'dir' for this model"));
  CHECK(corpora.files() == files);
  CHECK(message_of<DataError>([&] { Corpus::open(corpora.config.dir, "train", theirs); }) ==
        cat(corpora.config.dir, "/", shard, ": made with tokenizer ", ours.substr(0, 16), "..., the model's is ",
            theirs.substr(0, 16), "...; prepare a corpus for this model in another dir"));
}

TEST_CASE("the name of an evaluation set may not be a path", "[prepare][errors]") {
  Corpora corpora;
  const std::string file = corpora.document("a.txt", "some document");
  for (const char* set : {"../up", "a/b", "a b", "a.b"}) {
    corpora.config.sources.clear();
    corpora.source(file).set = set;
    refused(corpora, cat("source ", file, ": set '", set, "' may hold letters, digits, - and _ only"));
  }
  corpora.config.sources.clear();
  corpora.source(file).set = "train";
  refused(corpora, cat("source ", file, ": set 'train' is what is trained on; a set names held-out documents"));
  corpora.config.sources.clear();
  corpora.source(file).set = "heldout";
  refused(corpora, cat("source ", file,
                       ": 'heldout' is what corpus.heldout chooses by hash; give the set another name, such as "
                       "'exam'"));
}

TEST_CASE("conversations need a layout that the tokenizer has", "[prepare][errors]") {
  Corpora corpora;
  corpora.config.chat_template = "llama3";
  corpora.source(
      corpora.document("a.jsonl", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]})"));
  refused(corpora,
          "the llama3 chat layout needs the control token <|start_header_id|>, which the tokenizer byte-tokenizer does not have; "
          "choose another corpus.chat_template");
}

TEST_CASE("a corpus that is not there is named", "[prepare][errors]") {
  TempDir dir;
  CHECK(message_of<DataError>([&] { Corpus::open(dir.path, "train", ""); }) ==
        dir.path.string() + ": no corpus here; run 'graft prepare' first");
}

TEST_CASE("a set of documents that were trained on is refused", "[prepare][errors]") {
  const auto refused_set = [](const std::string& content) {  // of exam.txt; a.txt was trained on
    Corpora corpora;
    corpora.document("exam.txt", "trained on before");
    corpora.source(corpora.document("a.txt", "another document"));
    corpora.source((corpora.dir / "docs/exam.txt").string());
    corpora.prepare();
    const auto files = corpora.files();
    const std::string exam = corpora.document("exam.txt", content);
    corpora.config.sources[1].set = "exam";
    CHECK(message_of<DataError>([&] { corpora.prepare(); }) ==
          cat(corpora.config.dir, ": a document of the set exam (source ", exam,
              ") is among the documents to train on since an earlier run of prepare; name another corpus.dir, where the set is "
              "kept apart from the beginning"));
    CHECK(corpora.files() == files);
  };
  refused_set("trained on before");
  refused_set("what it says now");  // an older version was trained on
  refused_set("another document");  // under another name
}

TEST_CASE("documents beyond those that can be remembered are refused, never added twice", "[prepare][errors]") {
  Corpora corpora;
  const auto write = [&](int documents, std::uint64_t limit) {
    CorpusWriter writer(corpora.config, corpora.tokenizer, {}, limit);
    std::string split = "train";
    std::int64_t added = 0;
    for (int i = 0; i < documents; ++i) {
      TokenizedDocument document;
      document.id_hash = hash128(cat("id", i)).high;
      document.content = hash128(cat("text", i));
      document.ids = {1, 2, i};
      added += writer.add(split, document) == Novelty::added;
    }
    writer.finish();
    return added;
  };
  const auto refusal = [&](int documents, std::uint64_t limit) {
    return message_of<DataError>([&] { write(documents, limit); });
  };
  corpora.source("docs");
  const std::string more = cat(corpora.config.dir,
                               ": more than 4 documents, of which no further one could be told from those known; give fewer "
                               "sources to this dir and the rest to another, or put several short documents into one");
  CHECK(refusal(5, 4) == more);
  CHECK(corpora.files().empty());
  CHECK(write(4, 4) == 4);
  CHECK(write(4, 4) == 0);  // all of them known
  CHECK(refusal(5, 4) == more);
  CHECK(read_manifest(corpora.config.dir).size() == 1);
  CHECK(write(6, 6) == 2);
  CHECK(refusal(1, 4) == more);  // what exists cannot be remembered
}
