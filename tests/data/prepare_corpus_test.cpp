// What prepare() keeps: splits, duplicates, counts, shards that are appended to and never touched, the same bytes for any number
// of threads.
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "core/json.h"
#include "data/chat_template.h"
#include "data/token_file.h"
#include "tests/data/support.h"
#include "tests/support/log_of.h"

using namespace graft;
using namespace graft::data;

namespace {

using Texts = std::vector<std::string>;

// Lines that all differ, of differing lengths.
std::string jsonl(int from, int to) {
  std::string out;
  for (int i = from; i < to; ++i)
    out += cat("{\"id\":", i, ",\"text\":\"document ", i, ":", std::string(static_cast<std::size_t>(i * 37 % 211), 'x'), "\"}\n");
  return out;
}

std::map<std::string, std::string> contents(const Corpora& corpora) {
  std::map<std::string, std::string> out;
  for (const std::string& name : corpora.files()) out[name] = get(fs::path(corpora.config.dir) / name);
  return out;
}

}  // namespace

TEST_CASE("the held-out side of a document is its hash, whatever else there is", "[prepare]") {
  const auto heldout = [](int documents, double share) {
    Corpora corpora;
    corpora.config.heldout = share;
    corpora.source(corpora.document("a.jsonl", jsonl(0, documents))).id_field = "id";
    // A document's id holds the path as it is configured: it must be the same in each of these directories.
    const fs::path before = fs::current_path();
    fs::current_path(corpora.dir.path);
    corpora.config.sources[0].path = "docs/a.jsonl";
    const PrepareReport report = corpora.prepare();
    fs::current_path(before);
    CHECK(conserved(report));
    const Texts texts = corpora.texts("heldout");
    CHECK(report.documents_by_split.at("heldout") == static_cast<std::int64_t>(texts.size()));
    CHECK(corpora.texts("train").size() + texts.size() == static_cast<std::size_t>(documents));
    return std::set<std::string>(texts.begin(), texts.end());
  };
  const auto few = heldout(500, 0.1), many = heldout(2000, 0.1), more = heldout(2000, 0.2);
  CHECK(std::includes(many.begin(), many.end(), few.begin(), few.end()));
  CHECK(std::includes(more.begin(), more.end(), many.begin(), many.end()));
  // 2000 draws at 0.1: 200 expected, standard deviation 13.4; five of them.
  CHECK(std::abs(static_cast<int>(many.size()) - 200) < 67);
  // And none of the new ones among the old 500.
  std::size_t of_the_first = 0;
  for (const std::string& text : many) of_the_first += std::stoi(text.substr(9)) < 500;
  CHECK(of_the_first == few.size());
}

TEST_CASE("a document goes to the split that its id's sha256 says", "[prepare]") {
  // python3: int(hashlib.sha256(b"docs/a.txt").hexdigest()[16:32], 16) / 2**64 and so on
  const std::pair<const char*, double> places[] = {
      {"docs/a.txt", 0.328693586}, {"docs/b.txt", 0.801025730}, {"docs/c.txt", 0.018181516}};
  for (const auto& [name, place] : places) {
    for (const double share : {place - 1e-6, place + 1e-6}) {
      Corpora corpora;
      corpora.config.heldout = share;
      put(corpora.dir / name, cat("the text of ", name));
      corpora.source(name);
      const fs::path before = fs::current_path();
      fs::current_path(corpora.dir.path);
      const PrepareReport report = corpora.prepare();
      fs::current_path(before);
      CHECK(report.documents_by_split.contains("heldout") == (share > place));
    }
  }
}

TEST_CASE("a known document stays on its side with all its versions, and prepare says so", "[prepare]") {
  Corpora corpora;
  const std::string file = corpora.document("a.jsonl", jsonl(0, 40));
  corpora.source(file).id_field = "id";
  const auto prepare = [&](double heldout) {
    corpora.config.heldout = heldout;
    PrepareReport report;
    const std::string log = testing::log_of([&] { report = corpora.prepare(); });
    CHECK(conserved(report));
    const auto at = log.find("[prepare] warning: ");
    return std::pair(report, at == std::string::npos ? "" : log.substr(at, log.find('\n', at) - at));
  };
  const auto stay = [](std::int64_t documents, const std::string& split) {
    return cat("[prepare] warning: ", documents, " known documents stay in '", split,
               "', where corpus.heldout and the sources' sets would not put them today; another corpus.dir applies these");
  };
  const auto changed = [](std::string lines, const std::string& by) {
    for (std::size_t at = 0; (at = lines.find("document", at)) != std::string::npos; at += by.size()) lines.replace(at, 8, by);
    return lines;
  };
  CHECK(prepare(0).second == "");
  CHECK(prepare(0).second == "");
  // By half, what is new alone: those that would go are in the warning.
  put(file, changed(jsonl(0, 40), "edited") + jsonl(40, 80));
  const auto [half, said] = prepare(0.5);
  const auto heldout = static_cast<std::int64_t>(corpora.texts("heldout").size());
  Corpora fresh;  // what the hash says of the first forty
  fresh.config.heldout = 0.5;
  put(file, jsonl(0, 40));
  fresh.source(file).id_field = "id";
  const std::int64_t would_go = fresh.prepare().documents_by_split.at("heldout");
  CHECK(said == stay(would_go, "train"));
  CHECK(half.changed_documents == 40);
  CHECK(half.documents_by_split == std::map<std::string, std::int64_t>{{"heldout", heldout}, {"train", 80 - heldout}});
  CHECK((heldout > 5 && heldout < 35));  // 20 expected of the forty new ones, standard deviation 3.2
  for (const std::string& text : corpora.texts("heldout")) CHECK(std::stoi(text.substr(text.find(' '))) >= 40);
  // Back to none: what is held out stays so, and what it says now is.
  put(file, changed(jsonl(0, 40), "edited") + changed(jsonl(40, 80), "later"));
  const auto [none, told] = prepare(0);
  CHECK(told == stay(heldout, "heldout"));
  CHECK(none.documents_by_split == std::map<std::string, std::int64_t>{{"heldout", heldout}, {"train", 40 - heldout}});
  CHECK(corpora.texts("heldout").size() == 2 * static_cast<std::size_t>(heldout));

  // A set that its source no longer names.
  Corpora exam;
  const std::string question = exam.document("exam.txt", "a question");
  exam.document("a.txt", "for training");
  exam.source((exam.dir / "docs/*").string());
  exam.source(question).set = "exam";
  exam.prepare();
  CHECK(testing::log_of([&] { exam.prepare(); }).find("warning") == std::string::npos);
  exam.config.sources.pop_back();
  put(question, "the question, edited");
  exam.prepare();
  CHECK(exam.texts("exam") == Texts{"a question", "the question, edited"});
  CHECK(exam.texts() == Texts{"for training"});
}

TEST_CASE("a source can be an evaluation set of its own", "[prepare]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "for training"));
  corpora.source(corpora.document("b.txt", "for the exam")).set = "exam";
  corpora.prepare();
  CHECK(corpora.texts("train") == Texts{"for training"});
  CHECK(corpora.texts("exam") == Texts{"for the exam"});
  const std::string message = message_of<DataError>([&] { corpora.texts("heldout"); });
  CHECK(message == corpora.config.dir + ": no documents in split 'heldout'; the corpus has exam, train");
}

TEST_CASE("exact duplicates are dropped and counted, unless asked for", "[prepare]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "the same text"));
  corpora.source(corpora.document("b.txt", "the same text \r\n"));  // equal once it is clean
  corpora.source(corpora.document("c.txt", "the same text."));
  corpora.source(corpora.config.sources[0].path);  // the same file named twice
  PrepareReport report = corpora.prepare();
  CHECK(corpora.texts() == Texts{"the same text", "the same text."});
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"duplicate", 2}});
  CHECK(report.dropped_tokens == std::map<std::string, std::int64_t>{{"duplicate", 2 * 14}});
  CHECK(conserved(report));
  // Known texts under a new name are duplicates in later runs too.
  corpora.config.sources = {};
  corpora.source(corpora.document("d.txt", "the same text."));
  report = corpora.prepare();
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"duplicate", 1}});
  CHECK(report.new_shards.empty());

  Corpora all;
  all.config.deduplicate = false;
  for (const char* name : {"a.txt", "b.txt", "c.txt"}) all.source((corpora.dir / "docs" / name).string());
  CHECK(all.prepare().documents_kept == 3);
}

TEST_CASE("every document and token is kept or counted under a reason", "[prepare]") {
  Corpora corpora;
  corpora.config.min_bytes = 5;
  corpora.config.invalid_utf8 = "reject";
  corpora.document("a.txt", "kept, of 21 bytes all");
  corpora.document("b.txt", "kept, of 21 bytes all");
  corpora.document("c.txt", "four");
  corpora.document("d.txt", " \n\t\n");
  corpora.document("e.txt", "");
  corpora.document("f.txt", "bad \xFF bytes");
  corpora.document("g.pdf", "");
  corpora.document("h.jsonl", "{\"text\":\"kept as well\"}\n{\n\n{\"no\":1}\n");
  corpora.document("i.html", "<script>only()</script>");
  corpora.source((corpora.dir / "docs").string());
  const PrepareReport report = corpora.prepare();
  CHECK(conserved(report));
  CHECK(report.documents_read == 11);
  CHECK(report.documents_kept == 2);
  CHECK(report.tokens == 21 + 1 + 12 + 1);  // and the end of each
  CHECK(report.bytes == 21 + 12);
  CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"bad JSON line", 1},
                                                                        {"duplicate", 1},
                                                                        {"empty", 3},
                                                                        {"invalid UTF-8", 1},
                                                                        {"missing text field", 1},
                                                                        {"shorter than min_bytes", 1},
                                                                        {"unknown file type .pdf", 1}});
  CHECK(report.dropped_tokens == std::map<std::string, std::int64_t>{{"duplicate", 22}});
  CHECK(report.json()["documents_dropped"]["empty"] == 3);
  const PrepareReport again = corpora.prepare();
  CHECK(conserved(again));
  CHECK(again.unchanged_documents == 2);
  CHECK(again.new_shards.empty());
}

TEST_CASE("new documents become a new shard and touch no old one", "[prepare]") {
  Corpora corpora;
  corpora.config.shard_tokens = 1024;
  const std::string file = corpora.document("a.jsonl", jsonl(0, 60));
  corpora.source(file).id_field = "id";
  corpora.prepare();
  const auto before = contents(corpora);
  CHECK(before.size() > 4);
  std::map<std::string, std::pair<ino_t, timespec>> stamps;
  const auto stat_of = [&](const std::string& name) {
    struct stat info;
    REQUIRE(stat((fs::path(corpora.config.dir) / name).c_str(), &info) == 0);
    return std::pair(info.st_ino, info.st_mtim);
  };
  for (const auto& [name, bytes] : before) stamps[name] = stat_of(name);

  put(file, jsonl(0, 80));
  const PrepareReport report = corpora.prepare();
  CHECK(report.documents_kept == 20);
  CHECK(report.unchanged_documents == 60);
  const auto after = contents(corpora);
  CHECK(after.size() == before.size() + report.new_shards.size());
  for (const auto& [name, bytes] : before) {
    if (name == "manifest.jsonl") {
      CHECK(after.at(name).starts_with(bytes));
      continue;
    }
    CHECK((after.at(name) == bytes));
    const auto [inode, time] = stat_of(name);
    CHECK(inode == stamps[name].first);
    CHECK((time.tv_sec == stamps[name].second.tv_sec && time.tv_nsec == stamps[name].second.tv_nsec));
  }
  Texts texts = corpora.texts();
  REQUIRE(texts.size() == 80);
  for (int i = 0; i < 80; ++i) CHECK(texts[static_cast<std::size_t>(i)].starts_with(cat("document ", i, ':')));
}

TEST_CASE("shards hold at most shard_tokens, a longer document is one of its own", "[prepare]") {
  Corpora corpora;
  corpora.config.shard_tokens = 1024;
  corpora.document("a.txt", std::string(600, 'a'));
  corpora.document("b.txt", std::string(600, 'b'));
  corpora.document("c.txt", std::string(5000, 'c'));
  corpora.document("d.txt", std::string(100, 'd'));
  corpora.document("e.txt", std::string(100, 'e'));
  corpora.source((corpora.dir / "docs").string());
  corpora.prepare();
  std::vector<std::uint64_t> tokens;
  for (const ShardRecord& record : read_manifest(corpora.config.dir)) tokens.push_back(record.tokens);
  CHECK(tokens == std::vector<std::uint64_t>{601, 601, 5001, 202});
}

TEST_CASE("any number of threads gives the same bytes", "[prepare]") {
  std::map<std::string, std::string> first;
  TempDir documents;
  put(documents / "a.jsonl", jsonl(0, 3000));
  for (int i = 0; i < 200; ++i)
    put(documents / cat("html/", i, ".html"), cat("<h1>page ", i, "</h1>", std::string(static_cast<std::size_t>(i), 'y')));
  for (const char* compression : {"none", "deflate"}) {
    for (const int threads : {1, 2, 7}) {
      Corpora corpora;
      corpora.config.compression = compression;
      corpora.config.heldout = 0.1;
      corpora.config.shard_tokens = 50000;
      corpora.source(documents.path.string());
      CHECK(conserved(corpora.prepare(threads)));
      if (threads == 1) first = contents(corpora);
      CHECK(first.size() > 4);
      CHECK((contents(corpora) == first));
    }
  }
}

TEST_CASE("the manifest says whether documents are conversations, and shards of an older one are looked into", "[prepare]") {
  Corpora corpora;
  CHECK_FALSE(has_conversations(corpora.config.dir, corpora.tokenizer.hash()));
  const auto found = [&] { return has_conversations(corpora.config.dir, corpora.tokenizer.hash()); };
  corpora.source(corpora.document("a.txt", "some document"));
  corpora.prepare();
  CHECK_FALSE(found());
  corpora.source(corpora.document("b.jsonl", R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})"
                                             "\n"));
  corpora.prepare();
  CHECK(found());
  CHECK_FALSE(has_conversations(corpora.config.dir, sha256_hex("other")));
  const fs::path manifest = fs::path(corpora.config.dir) / "manifest.jsonl";
  const std::string said = get(manifest);
  std::string older;
  for (const std::string& line : read_lines(manifest)) {
    Json record = parse_json(line, "manifest");
    REQUIRE(record.erase("conversations") == 1);
    older += record.dump() + "\n";
  }
  put(manifest, older);
  CHECK(found());
  const fs::path shard = fs::path(corpora.config.dir) / read_manifest(corpora.config.dir).back().file;
  put(shard, "damaged");
  CHECK_THROWS_AS(found(), UserError);
  put(manifest, said);  // which answers without the shard
  CHECK(found());
}

TEST_CASE("what a killed writer left is cleared away, its shard made again", "[prepare]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "some document"));
  corpora.prepare();
  const auto whole = contents(corpora);
  REQUIRE(whole.size() == 2);
  // Killed after the shard was renamed, before its record: the record is cut in its middle.
  const fs::path manifest = fs::path(corpora.config.dir) / "manifest.jsonl";
  put(manifest, whole.at("manifest.jsonl").substr(0, 40));
  CHECK(read_manifest(corpora.config.dir).empty());
  CHECK(corpora.prepare().documents_kept == 1);
  CHECK((contents(corpora) == whole));
}

TEST_CASE("shards that were recorded once are not cleared away with their records", "[prepare]") {
  Corpora corpora;
  corpora.config.shard_tokens = 1024;
  for (const char* name : {"a.txt", "b.txt", "c.txt"})
    corpora.source(corpora.document(name, std::string(name) + std::string(1000, name[0])));
  corpora.prepare();
  const auto whole = contents(corpora);
  REQUIRE(whole.size() == 4);
  const fs::path manifest = fs::path(corpora.config.dir) / "manifest.jsonl";
  const std::string records = whole.at("manifest.jsonl");
  const std::string first = records.substr(0, records.find('\n') + 1);
  const std::string second = records.substr(0, records.find('\n', first.size()) + 1);
  const auto refused = [&](const std::string& shards) {
    CHECK(message_of<DataError>([&] { corpora.prepare(); }) ==
          cat(corpora.config.dir, ": manifest.jsonl lacks the records of ", shards,
              ", which no interrupted run leaves: it was shortened, lost, or is an older one. Put it back; or, if the documents "
              "of these shards are elsewhere, remove them and run prepare again"));
    CHECK(contents(corpora).size() >= 3);
  };
  std::vector<std::string> shards;
  for (const auto& [name, content] : whole)
    if (name != "manifest.jsonl") shards.push_back(name);
  put(manifest, first);
  refused(shards[1] + " and 1 more");
  fs::remove(manifest);
  refused(shards[0] + " and 2 more");
  fs::remove(fs::path(corpora.config.dir) / shards[1]);
  put(manifest, first);
  refused(shards[2]);  // one, but not the next
  put(fs::path(corpora.config.dir) / shards[1], whole.at(shards[1]));
  put(manifest, second);  // as a writer leaves it that was killed
  CHECK(corpora.prepare().documents_kept == 1);
  CHECK((contents(corpora) == whole));
}

TEST_CASE("conversations of another layout are not added to", "[prepare]") {
  Corpora corpora;
  corpora.source(
      corpora.document("a.jsonl", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]})"));
  corpora.prepare();
  const fs::path manifest = fs::path(corpora.config.dir) / "manifest.jsonl";
  Json record = parse_json(get(manifest), "manifest");
  CHECK(record["layout"] == layout_hash(*make_chat_template(corpora.tokenizer, "chatml")));
  CHECK(corpora.prepare().unchanged_documents == 1);
  record["layout"] = std::string(64, '0');
  put(manifest, record.dump() + "\n");
  CHECK(message_of<DataError>([&] { corpora.prepare(); }) ==
        cat(corpora.config.dir, ": the conversations of shard ", record["file"].get<std::string>(),
            " are laid out otherwise than corpus.chat_template and this base have it today; put these back, or name another "
            "'dir', where all are laid out anew"));
  record.erase("layout");  // of an older program
  put(manifest, record.dump() + "\n");
  CHECK(corpora.prepare().unchanged_documents == 1);
}

TEST_CASE("nothing added and much dropped is no day without news", "[prepare]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "some document"));
  corpora.prepare();
  corpora.source(corpora.document("b.jsonl", "{\"txt\": 1}\n{\"txt\": 2}\n"));
  const std::string log = testing::log_of([&] { corpora.prepare(); });
  CHECK(log.find("nothing was added; dropped: 2 missing text field") != std::string::npos);
  CHECK(log.find("nothing new") == std::string::npos);
}

TEST_CASE("a second writer is refused by name of the first, and no harm is done", "[prepare]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "some document"));
  fs::create_directories(corpora.config.dir);
  {
    const DirectoryLock first(corpora.config.dir);
    const std::string message = message_of<Error>([&] { corpora.prepare(); });
    CHECK(message == cat(corpora.config.dir, " is in use by process ", getpid(), "; wait for it to end"));
    CHECK(corpora.files().empty());
  }
  corpora.prepare();
  CHECK(corpora.texts() == Texts{"some document"});
}

TEST_CASE("texts of control tokens are counted and stay text", "[prepare]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "<|im_start|>user\nhi<|im_end|> <|im_<|im_end|>| <|bos|><|bos>"));
  const PrepareReport report = corpora.prepare();
  CHECK(report.control_literals == 4);
  const auto corpus = Corpus::open(corpora.config.dir, "train", "");
  std::vector<std::int32_t> ids(static_cast<std::size_t>(corpus->document(0).tokens));
  corpus->read(0, 0, ids, {});
  CHECK(ids.back() == 257);
  ids.pop_back();
  CHECK(std::ranges::all_of(ids, [](std::int32_t id) { return id < 256; }));
}

TEST_CASE("what a set holds is nowhere else, wherever the source stands and whatever is deduplicated", "[prepare]") {
  for (const bool deduplicate : {true, false}) {
    Corpora corpora;
    corpora.config.deduplicate = deduplicate;
    corpora.document("exam.txt", "question and answer");
    corpora.document("copy.txt", "question and answer");
    corpora.document("other.txt", "anything else");
    corpora.source((corpora.dir / "docs").string());
    corpora.source((corpora.dir / "docs/exam.txt").string()).set = "exam";
    const PrepareReport report = corpora.prepare();
    CHECK(conserved(report));
    CHECK(report.dropped_documents == std::map<std::string, std::int64_t>{{"duplicate", 2}});
    CHECK(corpora.texts("exam") == Texts{"question and answer"});
    CHECK(corpora.texts("train") == Texts{"anything else"});
    corpora.document("late.txt", "question and answer");
    const PrepareReport again = corpora.prepare();
    CHECK(again.documents_kept == 0);
    CHECK(conserved(again));
    CHECK(corpora.texts("train").size() == 1);
  }
}
