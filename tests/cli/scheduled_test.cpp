// `graft run --runs DIR`, as a timer calls it night after night.
#include <regex>

#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

const std::vector<std::string> kRuns = {"--runs", "runs", "--json"};

std::vector<std::string> names(const Workshop& workshop) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(workshop / "runs"))
    if (entry.is_directory()) found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

struct Night {
  std::string run;  // that it worked in
  Json train;
};

Night night(const Workshop& workshop, const std::vector<std::string>& set = {"train.steps=3"}) {
  const Outcome done = workshop.graft("run", set, kRuns);
  INFO(done.err);
  REQUIRE(done.code == 0);
  const Json result = parse_json(done.out, "stdout");
  return {fs::path(result["report"].get<std::string>()).parent_path().filename().string(), result["train"]};
}

void add_documents(const Workshop& workshop, int first) {
  for (int i = first; i < first + 20; ++i)
    write_file(workshop / cat("docs/new-", i, ".txt"), document(static_cast<std::uint64_t>(i)));
}

}  // namespace

TEST_CASE("a scheduled run trains when there is something new, each time in a directory of its own", "[run][scheduled]") {
  const Workshop workshop({}, 40);
  const Night first = night(workshop);
  CHECK(std::regex_match(first.run, std::regex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z")));
  CHECK(first.train["already_done"] == false);
  CHECK(!fs::exists(workshop / "run"));  // run_dir of the config

  const Night same = night(workshop);
  CHECK((same.run == first.run && same.train["already_done"] == true));
  CHECK(workshop.graft("run", {"train.steps=3"}, kRuns).err.find(cat("nothing new since runs/", first.run, "\n")) !=
        std::string::npos);

  add_documents(workshop, 1000);
  const Night more = night(workshop);
  CHECK(more.run > first.run);
  CHECK((more.train["already_done"] == false && more.train["corpus_changed"] == false));
  CHECK(night(workshop).run == more.run);

  const Night other = night(workshop, {"train.steps=4"});
  CHECK(other.run > more.run);
  CHECK(night(workshop).run == more.run);  // a clock that ran ahead does no harm: the newest of these settings counts

  write_file(workshop / "runs" / other.run / "run.json", "{");
  const Outcome damaged = workshop.graft("run", {"train.steps=3"}, kRuns);
  CHECK(damaged.code == 0);
  CHECK(damaged.err.find(cat("runs/", other.run, " is passed over: ")) != std::string::npos);
  CHECK(names(workshop) == std::vector<std::string>{first.run, more.run, other.run});
}

TEST_CASE("a scheduled run that was stopped goes on, whatever the date; its new documents are those of the next",
          "[run][scheduled]") {
  const Workshop workshop({}, 40);
  const std::vector<std::string> set = {"train.steps=400", "train.checkpoint_every=1000"};
  {
    Process process(workshop.command("run", set, kRuns), {.directory = workshop.path()});
    REQUIRE(process.wait_for("400 steps of 5 rows"));
    process.signal(SIGTERM);
    REQUIRE(process.finish().code == 143);
  }
  const std::vector<std::string> stopped = names(workshop);
  REQUIRE(stopped.size() == 1);
  const fs::path yesterday = workshop / "runs/2000-01-01T000000Z";  // begun under an earlier date
  fs::rename(workshop / "runs" / stopped[0], yesterday);
  add_documents(workshop, 1000);
  const Night resumed = night(workshop, set);
  CHECK(resumed.run == yesterday.filename());
  CHECK((resumed.train["resumed_from"].get<int>() >= 0 && resumed.train["corpus_changed"] == true));
  fs::remove(yesterday / "report.html");  // stopped after the training
  CHECK(night(workshop, set).run == resumed.run);
  const Night next = night(workshop, set);
  CHECK((next.run > resumed.run && next.train["corpus_changed"] == false));
}

TEST_CASE("a scheduled run whose documents are gone is passed over, and so is what is no run", "[run][scheduled]") {
  const Workshop workshop({}, 40);
  fs::create_directories(workshop / "runs/archive");  // empty, and somebody's
  const std::vector<std::string> set = {"train.steps=400", "train.checkpoint_every=1000"};
  {
    Process process(workshop.command("run", set, kRuns), {.directory = workshop.path()});
    REQUIRE(process.wait_for("400 steps of 5 rows"));
    process.signal(SIGTERM);
    REQUIRE(process.finish().code == 143);
  }
  REQUIRE(names(workshop).size() == 2);
  const std::string stopped = names(workshop)[0];
  fs::remove_all(workshop / "corpus");
  fs::remove(workshop / "docs/7.txt");
  const Outcome anew = workshop.graft("run", set, kRuns);
  INFO(anew.err);
  CHECK(anew.code == 0);
  CHECK(anew.err.find(cat("runs/", stopped,
                          " was not finished and is passed over: the documents that it began with are not in "
                          "corpus any more")) != std::string::npos);
  CHECK(names(workshop).size() == 3);
  CHECK(fs::is_empty(workshop / "runs/archive"));
  const Outcome same = workshop.graft("run", {}, {"--runs", "corpus"});
  CHECK(same.code == 2);
  CHECK(same.err.find("--runs corpus is corpus.dir, and each has a lock of its own") != std::string::npos);
}

TEST_CASE("a scheduled run that could not begin leaves nothing that piles up", "[run][scheduled]") {
  const Workshop workshop({}, 40);
  const std::vector<std::string> huge = {"train.rows=1000000", "train.micro_rows=1000000"};
  for (int i = 0; i < 2; ++i) CHECK(workshop.graft("run", huge, kRuns).code == 4);
  REQUIRE(names(workshop).size() == 1);
  CHECK(night(workshop).run == names(workshop)[0]);
  CHECK(names(workshop).size() == 1);
  CHECK(workshop.graft("run", {}, {"--runs", "docs/runs"}).err.find("lies in the source 'docs'") != std::string::npos);
  CHECK(workshop.graft("run", {}, {"--runs", "runs", "--fresh"}).code == 2);
  const DirectoryLock lock(workshop / "runs");
  const Outcome second = workshop.graft("run", {}, kRuns);
  CHECK(second.code == 75);
  CHECK(second.err.find("runs is in use by process ") != std::string::npos);
}
