// A directory with all that a run needs: base/ (tests/support/tiny_base.h), docs/ with some documents, run.yaml. 40 steps take
// about a second, most of it LibTorch's loading. Rows do not divide into micro-batches or epochs, so both end inside a run.
#pragma once

#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/support/program.h"
#include "tests/support/tiny_base.h"

namespace graft::testing {

// One document of made-up English, a pure function of its number.
inline std::string document(std::uint64_t number, std::int64_t words = 60) {
  static constexpr const char* list[] = {"table", "index",  "query", "the",  "a",    "row",  "column", "is",   "of",   "and",
                                         "to",    "vacuum", "lock",  "page", "when", "each", "server", "plan", "scan", "log"};
  const Random random(number, Stream::sample);
  std::string text = "Note " + std::to_string(number) + ":";
  for (std::int64_t i = 0; i < words; ++i)
    text += std::string(" ") + list[random.bits(static_cast<std::uint64_t>(i)) % std::size(list)];
  return text + ".\n";
}

class Workshop {
 public:
  explicit Workshop(const TinyBase& base = {}, int documents = 90) {
    std::string name = (fs::temp_directory_path() / "graft-cli-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw MachineError("cannot create a scratch directory");
    path_ = name;
    write_tiny_base(path_ / "base", base);
    fs::create_directories(path_ / "docs");
    for (int i = 0; i < documents; ++i)
      write_file(path_ / "docs" / (std::to_string(i) + ".txt"), document(static_cast<std::uint64_t>(i), 20 + i));
    write_file(path_ / "run.yaml", config());
  }
  ~Workshop() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;

  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

  // graft COMMAND -c run.yaml --set ... REST
  std::vector<std::string> command(const std::string& name, const std::vector<std::string>& set = {},
                                   const std::vector<std::string>& rest = {}) const {
    std::vector<std::string> words = {name, "-c", "run.yaml"};
    for (const std::string& assignment : set) words.insert(words.end(), {"--set", assignment});
    words.insert(words.end(), rest.begin(), rest.end());
    return words;
  }
  Outcome graft(const std::string& name, const std::vector<std::string>& set = {},
                const std::vector<std::string>& rest = {}) const {
    return run_program(command(name, set, rest), {.directory = path_});
  }
  Outcome graft_words(const std::vector<std::string>& words) const { return run_program(words, {.directory = path_}); }

  // Every file below `name` with its content; empty when there is none. Locks and temporary files count as nothing.
  std::map<std::string, std::string> files(const std::string& name) const {
    std::map<std::string, std::string> all;
    std::error_code missing;
    for (const auto& entry : fs::recursive_directory_iterator(path_ / name, missing))
      if (entry.is_regular_file() && entry.path().filename() != ".lock")
        all[fs::relative(entry.path(), path_ / name).string()] = read_file(entry.path());
    return all;
  }

  static std::string config() {
    return R"(base: base
run_dir: run
threads: 1
corpus:
  dir: corpus
  sources:
    - path: docs
  heldout: 0.1
lora:
  rank: 4
  alpha: 8
  target_modules: [all-linear]
train:
  length: 64
  rows: 5
  micro_rows: 2
  steps: 40
  learning_rate: 2.0e-3
  dtype: fp32
  eval_every: 16
  checkpoint_every: 7
eval:
  length: 64
  prompts: ["Note 3: the"]
  prompt_tokens: 8
export:
  formats: [peft]
)";
  }

 private:
  fs::path path_;
};

}  // namespace graft::testing
