// The k-th call of the real program that writes, syncs, renames or opens for writing fails, for every k of prepare, training and
// export: exit 4 with one line that says which file and why, what was committed before is intact, and the rerun ends with the
// bytes of a run without faults. GRAFT_FAULTS=all: with ENOSPC and EIO at every k; else they take turns.
#include <iostream>

#include "tests/e2e/scenarios.h"
#include "tests/support/fault.h"

using namespace graft;
using namespace graft::testing;

namespace {

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
  try_all_faults("prepare", workshop, prepare_scenario(workshop));
}

TEST_CASE("each failing call of training: logs, checkpoints, the adapter, the report", "[faults]") {
  const Workshop workshop;
  try_all_faults("train", workshop, train_scenario(workshop));
}

TEST_CASE("each failing call of export", "[faults]") {
  const Workshop workshop({}, 20);
  try_all_faults("export", workshop, export_scenario(workshop));
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
