// The k-th allocation of the real program fails, for a sample of k: the command ends as one that a user can understand, what was
// committed is intact, and the rerun ends with the bytes of a run without faults. GRAFT_MEMORY_FAULTS=N: the size of the sample.
#include <iostream>

#include "tests/e2e/scenarios.h"
#include "tests/support/fault.h"

using namespace graft;
using namespace graft::testing;

namespace {

// Not by our code, which throws: destructors of nlohmann::json and iterators of std::filesystem allocate where they may not throw
// (SIGABRT), a half-made nlohmann::json and libhdf5 use what they did not get (SIGSEGV), libhdf5 calls exit(-1).
bool ended_by_library(int exit_code) { return exit_code == 128 + SIGABRT || exit_code == 128 + SIGSEGV || exit_code == 255; }

bool names_memory(const std::string& output) {
  const auto at = ("\n" + output).rfind("\ngraft: ");  // the program's own lines, not a file's name
  return at != std::string::npos && output.find("memory", at) != std::string::npos;
}

// from: a file that is opened once the libraries have started, which libhdf5 and libcrypto do not survive without memory.
void try_memory_faults(const char* name, const Workshop& workshop, const Scenario& scenario, const std::string& from) {
  const std::string line = shell_line(workshop, scenario.words);
  scenario.reset();
  const FaultResult clean = run_with_memory_fault(line, from, 0);
  INFO(clean.output);
  REQUIRE(clean.exit_code == 0);
  REQUIRE(clean.calls > 1000);
  const Files expected = scenario.result();

  const int sample = repetitions("GRAFT_MEMORY_FAULTS", 24);
  int done = 0, named = 0, aborted = 0, equal = 0;
  for (int i = 0; i < sample; ++i) {
    const long k = 1 + clean.calls * (2 * i + 1) / (2 * sample);
    scenario.reset();
    const FaultResult failed = run_with_memory_fault(line, from, k);
    INFO(name << ": allocation " << k << " of " << clean.calls << ", exit " << failed.exit_code << "\n" << failed.output);
    if (failed.exit_code == 0) {  // a library went on without
      CHECK(scenario.result() == expected);
      ++done;
    } else if (ended_by_library(failed.exit_code)) {
      ++aborted;
    } else {
      if (failed.exit_code == 2)  // libhdf5 does not say whether the file or memory is short
        CHECK(failed.output.ends_with("; the file is damaged, or memory ran out\n"));
      else
        CHECK(failed.exit_code == 4);
      CHECK(names_memory(failed.output));
      ++named;
    }
    scenario.check_intact();
    const Outcome rerun = workshop.graft_words(scenario.words);
    INFO(rerun.err);
    CHECK(rerun.code == 0);
    const bool same = scenario.result() == expected;
    CHECK(same);
    equal += same;
    CHECK(leftovers(workshop / scenario.directory).empty());
  }
  std::cout << name << ": " << sample << " of " << clean.calls << " allocations failed; " << named << " named, " << done
            << " done without, " << aborted << " ended by a library; " << equal << " reruns with the same bytes\n";
  CHECK(named > sample / 4);
  CHECK(aborted <= sample / 6);
}

}  // namespace

TEST_CASE("memory runs out in prepare", "[memory]") {
  const Workshop workshop({}, 20);
  try_memory_faults("prepare", workshop, prepare_scenario(workshop), "corpus/train-0001");
}

TEST_CASE("memory runs out in training", "[memory]") {
  const Workshop workshop;
  try_memory_faults("train", workshop, train_scenario(workshop), "corpus/heldout-0001");
}

TEST_CASE("memory runs out in export", "[memory]") {
  const Workshop workshop({}, 20);
  try_memory_faults("export", workshop, export_scenario(workshop), "adapter_config.json");
}
