// Held-out documents of which near-duplicates are trained on: how many there are, and what the gain is without them.
#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

// "Note 40: ..." of docs/40.txt under another number: one word of 60 differs.
std::string edition(std::uint64_t number) {
  const std::string old = document(number, 20 + static_cast<std::int64_t>(number));
  return "Note 999" + old.substr(old.find(':'));
}

// Held out: those that the hash chooses, which resemble nothing, and a set of the texts given.
void add_exam(const Workshop& workshop, const std::vector<std::string>& texts) {
  for (std::size_t i = 0; i < texts.size(); ++i) write_file(workshop / "exam" / (std::to_string(i) + ".txt"), texts[i]);
  std::string config = Workshop::config();
  const std::string docs = "    - path: docs\n";
  config.replace(config.find(docs), docs.size(), docs + "    - {path: exam, set: exam}\n");
  write_file(workshop / "run.yaml", config);
}

const Json& of_set(const Json& list, const std::string& set) {
  for (const Json& each : list)
    if (each["set"] == set) return each;
  FAIL("no " << set << " in " << list.dump());
  return list;
}

// Nats of the exam's documents.
std::vector<double> exam_nll(const Workshop& workshop, const std::string& model) {
  const Json book = read_json(workshop / "run/scores.json");
  for (const Json& score : book["scores"])
    if (score["model"] == model && score["set"] == "exam") return score["document_nll"];
  return {};
}

}  // namespace

TEST_CASE("held-out documents that resemble trained ones are counted, and the gain is given without them", "[familiar]") {
  const Workshop workshop;
  fs::create_directories(workshop / "exam");
  add_exam(workshop, {document(700, 80), edition(40), document(701, 80)});
  const Outcome run = workshop.graft("run");
  INFO(run.err << run.out);
  REQUIRE(run.code == 0);
  const auto base = exam_nll(workshop, "base"), adapted = exam_nll(workshop, "adapted");
  REQUIRE(base.size() == 3);
  const double all = 1 - (adapted[0] + adapted[1] + adapted[2]) / (base[0] + base[1] + base[2]);
  const double others = 1 - (adapted[0] + adapted[2]) / (base[0] + base[2]);
  REQUIRE(others > 0);
  char line[200];
  std::snprintf(
      line, sizeof line,
      "exam: 1 of 3 documents stand by half or more in documents trained on; on the others the adapter saves %.1f %% of the "
      "base's bits (%.1f %% on all)\n",
      100 * others, 100 * all);
  CHECK(run.out.find(line) != std::string::npos);
  CHECK(run.out.find("heldout: 0 of ") != std::string::npos);
  CHECK(read_file(workshop / "run/report.html").find("exam: 1 of 3 documents stand by half") != std::string::npos);

  const Outcome eval = workshop.graft("eval", {}, {"--json"});
  INFO(eval.err << eval.out);
  REQUIRE(eval.code == 0);
  CHECK(eval.err.find("comparing") == std::string::npos);  // known from the run
  const Json familiar = parse_json(eval.out, "stdout")["familiar"];
  const Json& exam = of_set(familiar, "exam");
  CHECK(exam["documents"] == 3);
  CHECK(exam["familiar_documents"] == 1);
  CHECK(exam["gain"].get<double>() == Approx(all));
  CHECK(exam["gain_without_familiar"].get<double>() == Approx(others));
  const Json& heldout = of_set(familiar, "heldout");
  CHECK(heldout["familiar_documents"] == 0);
  CHECK(heldout["gain"] == heldout["gain_without_familiar"]);

  // What is kept is a file: numbers that belong to no document, or to too many.
  Json book = read_json(workshop / "run/scores.json");
  const Json original = book;
  for (Json& overlap : book["overlaps"]) overlap["shares"].push_back(1.0);
  write_file(workshop / "run/scores.json", book.dump());
  const Outcome again = workshop.graft("eval", {}, {"--json"});
  REQUIRE(again.code == 0);
  CHECK(parse_json(again.out, "stdout")["familiar"] == familiar);
  CHECK(read_json(workshop / "run/scores.json")["overlaps"] == original["overlaps"]);
  for (const std::int64_t nowhere : {std::int64_t{-1}, std::int64_t{3}, std::int64_t{1} << 40}) {
    book = original;
    for (Json& score : book["scores"])
      if (score["set"] == "exam") score["document_index"][0] = nowhere;
    write_file(workshop / "run/scores.json", book.dump());
    const Outcome wrong = workshop.graft("eval");
    INFO(wrong.err << wrong.out);
    CHECK(wrong.code == 0);
    CHECK(wrong.err.find(cat("document ", nowhere, " is not among the 3 of the held-out set")) != std::string::npos);
    CHECK(wrong.out.find("heldout: 0 of ") != std::string::npos);
  }
  write_file(workshop / "run/scores.json", original.dump());

  // Beside another model base and adapted are shown, whichever way that one is scored.
  const Outcome other = workshop.graft("eval", {}, {"--model", "base", "--base"});
  INFO(other.err << other.out);
  CHECK(other.code == 0);
  CHECK(other.out.find("\nadapted ") != std::string::npos);

  // The base alone has no gain to speak of.
  const Outcome bare = workshop.graft("eval", {}, {"--base"});
  CHECK(bare.code == 0);
  CHECK(bare.out.find("documents stand by half") == std::string::npos);
}

TEST_CASE("a held-out set of nothing but near-duplicates has no gain on new text", "[familiar]") {
  const Workshop workshop;
  fs::create_directories(workshop / "exam");
  add_exam(workshop, {edition(40), edition(41)});
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train").code == 0);
  const Outcome eval = workshop.graft("eval");
  INFO(eval.err << eval.out);
  REQUIRE(eval.code == 0);
  CHECK(
      eval.out.find("exam: 2 of 2 documents stand by half or more in documents trained on; the gain on them is no measure of new "
                    "text\n") != std::string::npos);
  const Json answer = parse_json(workshop.graft("eval", {}, {"--json"}).out, "stdout");
  const Json& exam = of_set(answer["familiar"], "exam");
  CHECK(exam["gain_without_familiar"].is_null());
}

TEST_CASE("a corpus that does not hold what was trained on is scored, and that is said", "[familiar]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train").code == 0);
  REQUIRE(workshop.graft("prepare", {"corpus.dir=other", "corpus.heldout=0.2"}).code == 0);
  const Outcome eval = workshop.graft("eval", {"corpus.dir=other"});
  INFO(eval.err << eval.out);
  REQUIRE(eval.code == 0);
  CHECK(eval.out.find("adapted") != std::string::npos);
  CHECK(eval.err.find("other is not known to hold what the adapter was trained on: no near-duplicates were looked for") !=
        std::string::npos);
  CHECK(eval.out.find("documents stand by half") == std::string::npos);
}

TEST_CASE("near-duplicates are looked for where the adapter's own documents are, and are no condition of scores", "[familiar]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train").code == 0);
  REQUIRE(workshop.graft("train", {"run_dir=another", "train.seed=7"}).code == 0);
  const Outcome foreign = workshop.graft("eval", {}, {"--adapter", "another/adapter"});
  INFO(foreign.err << foreign.out);
  REQUIRE(foreign.code == 0);
  CHECK(foreign.err.find("is not known to hold what the adapter was trained on") != std::string::npos);
  CHECK(foreign.out.find("documents stand by half") == std::string::npos);

  for (const auto& entry : fs::directory_iterator(workshop / "corpus"))
    if (entry.path().filename().string().starts_with("train-")) fs::remove(entry.path());
  const Outcome eval = workshop.graft("eval");
  INFO(eval.err << eval.out);
  REQUIRE(eval.code == 0);
  CHECK(eval.out.find("adapted") != std::string::npos);
  CHECK(eval.err.find("no near-duplicates were looked for: ") != std::string::npos);
}
