// The k-th call of the real program that writes, syncs, renames or opens for writing fails, for every k of prepare, training and
// export: exit 4 with one line that says which file and why, what was committed before is intact, and the rerun ends with the
// bytes of a run without faults. GRAFT_FAULTS=all: with ENOSPC and EIO at every k; else they take turns.
#include <functional>
#include <iostream>

#include "tests/e2e/run_files.h"
#include "tests/support/catch.h"
#include "tests/support/fault.h"

using namespace graft;
using namespace graft::testing;

namespace {

using Files = std::map<std::string, std::string>;

struct Scenario {
  std::vector<std::string> words;      // the command
  std::string directory;               // whose calls fail
  std::function<void()> reset;         // the state before the command
  std::function<void()> check_intact;  // whatever happened to the command
  std::function<Files()> result;       // of a command that succeeded
};

std::string shell_line(const Workshop& workshop, const std::vector<std::string>& words) {
  std::string line = "env -C '" + workshop.path().string() + "' " GRAFT_PROGRAM;
  for (const std::string& word : words) line += " '" + word + "'";
  return line;
}

void check_message(const std::string& output, const std::string& fault) {
  const auto at = ("\n" + output).rfind("\ngraft: ");  // the program's own lines, not a file's name
  REQUIRE(at != std::string::npos);
  const std::string last = output.substr(at);
  CHECK(last.starts_with("graft: cannot "));
  CHECK(std::count(last.begin(), last.end(), '\n') == 1);
  CHECK(last.find(fault == "EIO" ? ": Input/output error; check the disk and run again\n"
                                 : ": No space left on device; free space and run again\n") != std::string::npos);
}

void try_all_faults(const char* name, const Workshop& workshop, const Scenario& scenario) {
  const std::string line = shell_line(workshop, scenario.words);
  const fs::path directory = workshop / scenario.directory;
  scenario.reset();
  const FaultResult clean = run_with_fault(line, directory, 0, "ENOSPC");
  INFO(clean.output);
  REQUIRE(clean.exit_code == 0);
  REQUIRE(clean.calls > 10);
  const Files expected = scenario.result();

  const bool all = std::getenv("GRAFT_FAULTS") != nullptr;
  int refused = 0, equal = 0, tried = 0;
  for (long k = 1; k <= clean.calls; ++k)
    for (const std::string fault : {"ENOSPC", "EIO"}) {
      if (!all && (fault == "EIO") != (k % 2 == 0)) continue;
      scenario.reset();
      const FaultResult failed = run_with_fault(line, directory, k, fault);
      INFO(name << ": " << fault << " at call " << k << " of " << clean.calls << ", exit " << failed.exit_code << "\n"
                << failed.output);
      CHECK(failed.exit_code == 4);
      if (failed.exit_code == 4) check_message(failed.output, fault);
      scenario.check_intact();
      const Outcome rerun = workshop.graft_words(scenario.words);
      INFO(rerun.err);
      CHECK(rerun.code == 0);
      const bool same = scenario.result() == expected;
      CHECK(same);
      CHECK(leftovers(directory).empty());
      ++tried;
      refused += failed.exit_code == 4;
      equal += same;
    }
  std::cout << name << ": " << tried << " faults at " << clean.calls << " calls; " << refused << " named with exit 4, " << equal
            << " reruns with the same bytes\n";
}

}  // namespace

TEST_CASE("each failing call of prepare", "[faults]") {
  const Workshop workshop({}, 20);
  REQUIRE(workshop.graft("prepare").code == 0);
  const Files before = workshop.files("corpus");
  for (std::uint64_t i = 0; i < 20; ++i) write_file(workshop / ("docs/new-" + std::to_string(i) + ".txt"), document(1000 + i));
  fs::copy(workshop / "corpus", workshop / "corpus-before");
  try_all_faults("prepare", workshop,
                 {.words = workshop.command("prepare"),
                  .directory = "corpus",
                  .reset =
                      [&] {
                        fs::remove_all(workshop / "corpus");
                        fs::copy(workshop / "corpus-before", workshop / "corpus");
                      },
                  .check_intact =
                      [&] {
                        const Files now = workshop.files("corpus");
                        for (const auto& [name, content] : before)
                          CHECK((name == "manifest.jsonl" ? now.at(name).starts_with(content) : now.at(name) == content));
                      },
                  .result = [&] { return workshop.files("corpus"); }});
}

TEST_CASE("each failing call of training: logs, checkpoints, the adapter, the report", "[faults]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  try_all_faults("train", workshop,
                 {.words = workshop.command(
                      "train", {"train.steps=2", "train.checkpoint_every=1", "train.keep_checkpoints=1", "train.eval_every=0"}),
                  .directory = "run",
                  .reset =
                      [&] {
                        fs::remove_all(workshop / "run");
                        fs::create_directories(workshop / "run");
                      },
                  .check_intact =
                      [&] {  // a checkpoint is whole or not there, and one that was there has not gone before the next is
                        std::error_code missing;
                        std::int64_t newest = 0;
                        for (const auto& entry : fs::directory_iterator(workshop / "run/checkpoints", missing)) {
                          const std::string name = entry.path().filename().string();
                          if (!name.starts_with("step-")) continue;
                          newest = std::max<std::int64_t>(newest, std::stoll(name.substr(5)));
                          const auto sums = read_lines(entry.path() / "SHA256SUMS");
                          CHECK(sums.size() == 3);
                          for (const std::string& line : sums)
                            CHECK(sha256_file(entry.path() / line.substr(66)) == line.substr(0, 64));
                        }
                        const auto steps = static_cast<std::int64_t>(read_lines(workshop / "run/loss.jsonl").size());
                        CHECK(newest >= std::min<std::int64_t>(steps, 2) - 1);
                      },
                  .result = [&] { return lasting(workshop / "run"); }});
}

TEST_CASE("each failing call of export", "[faults]") {
  const Workshop workshop({}, 20);
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train", {"train.steps=1", "train.eval_every=0"}).code == 0);
  const Files run = workshop.files("run");
  try_all_faults("export", workshop,
                 {.words = workshop.command("export", {"train.steps=1", "export.formats=[peft, gguf-lora]"}),
                  .directory = "run/export",
                  .reset =
                      [&] {
                        fs::remove_all(workshop / "run/export");
                        fs::create_directories(workshop / "run/export");
                      },
                  .check_intact =
                      [&] {
                        for (const auto& [name, content] : run) CHECK(read_file(workshop / "run" / name) == content);
                      },
                  .result = [&] { return workshop.files("run/export"); }});
}

TEST_CASE("a disk that stays full ends graft run, and with room again it goes on", "[faults]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=3", "train.checkpoint_every=1"};
  REQUIRE(workshop.graft("run", set).code == 0);
  const Files expected = lasting(workshop / "run");
  const std::string line = shell_line(workshop, workshop.command("run", set));
  for (const long k : {1, 5, 20, 40, 60, 90}) {
    fs::remove_all(workshop / "run");
    fs::remove_all(workshop / "corpus");
    const FaultResult full = run_with_fault(line, workshop.path(), k, "ENOSPC", true);
    INFO("full from call " << k << " on\n" << full.output);
    CHECK(full.exit_code == 4);
    check_message(full.output, "ENOSPC");
    const Outcome rerun = workshop.graft("run", set);
    INFO(rerun.err);
    CHECK(rerun.code == 0);
    CHECK(lasting(workshop / "run") == expected);
  }
}
