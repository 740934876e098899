// Commands that may be stopped by a fault: the state before, what must hold whatever happens, the result.
#pragma once

#include <functional>

#include "tests/e2e/run_files.h"
#include "tests/support/catch.h"

namespace graft::testing {

using Files = std::map<std::string, std::string>;

struct Scenario {
  std::vector<std::string> words;      // the command
  std::string directory;               // whose calls fail
  std::function<void()> reset;         // the state before the command
  std::function<void()> check_intact;  // whatever happened to the command
  std::function<Files()> result;       // of a command that succeeded
};

inline std::string shell_line(const Workshop& workshop, const std::vector<std::string>& words) {
  std::string line = "env -C '" + workshop.path().string() + "' " GRAFT_PROGRAM;
  for (const std::string& word : words) line += " '" + word + "'";
  return line;
}

// New documents in a corpus that was prepared.
inline Scenario prepare_scenario(const Workshop& workshop) {
  REQUIRE(workshop.graft("prepare").code == 0);
  const Files before = workshop.files("corpus");
  for (std::uint64_t i = 0; i < 20; ++i) write_file(workshop / ("docs/new-" + std::to_string(i) + ".txt"), document(1000 + i));
  fs::copy(workshop / "corpus", workshop / "corpus-before");
  return {.words = workshop.command("prepare"),
          .directory = "corpus",
          .reset =
              [&workshop] {
                fs::remove_all(workshop / "corpus");
                fs::copy(workshop / "corpus-before", workshop / "corpus");
              },
          .check_intact =
              [&workshop, before] {
                const Files now = workshop.files("corpus");
                for (const auto& [name, content] : before)
                  CHECK((name == "manifest.jsonl" ? now.at(name).starts_with(content) : now.at(name) == content));
              },
          .result = [&workshop] { return workshop.files("corpus"); }};
}

// Two steps, with logs, checkpoints, the adapter, the report.
inline Scenario train_scenario(const Workshop& workshop) {
  REQUIRE(workshop.graft("prepare").code == 0);
  return {.words = workshop.command(
              "train", {"train.steps=2", "train.checkpoint_every=1", "train.keep_checkpoints=1", "train.eval_every=0"}),
          .directory = "run",
          .reset =
              [&workshop] {
                fs::remove_all(workshop / "run");
                fs::create_directories(workshop / "run");
              },
          .check_intact =
              [&workshop] {  // a checkpoint is whole or not there, and one that was there has not gone before the next is
                std::error_code missing;
                std::int64_t newest = 0;
                for (const auto& entry : fs::directory_iterator(workshop / "run/checkpoints", missing)) {
                  const std::string name = entry.path().filename().string();
                  if (!name.starts_with("step-")) continue;
                  newest = std::max<std::int64_t>(newest, std::stoll(name.substr(5)));
                  const auto sums = read_lines(entry.path() / "SHA256SUMS");
                  CHECK(sums.size() == 3);
                  for (const std::string& line : sums) CHECK(sha256_file(entry.path() / line.substr(66)) == line.substr(0, 64));
                }
                const auto steps = static_cast<std::int64_t>(read_lines(workshop / "run/loss.jsonl").size());
                CHECK(newest >= std::min<std::int64_t>(steps, 2) - 1);
              },
          .result = [&workshop] { return lasting(workshop / "run"); }};
}

// Two formats of an adapter that was trained.
inline Scenario export_scenario(const Workshop& workshop) {
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train", {"train.steps=1", "train.eval_every=0"}).code == 0);
  const Files run = workshop.files("run");
  return {.words = workshop.command("export", {"train.steps=1", "export.formats=[peft, gguf-lora]"}),
          .directory = "run/export",
          .reset =
              [&workshop] {
                fs::remove_all(workshop / "run/export");
                fs::create_directories(workshop / "run/export");
              },
          .check_intact =
              [&workshop, run] {
                for (const auto& [name, content] : run) CHECK(read_file(workshop / "run" / name) == content);
              },
          .result = [&workshop] { return workshop.files("run/export"); }};
}

}  // namespace graft::testing
