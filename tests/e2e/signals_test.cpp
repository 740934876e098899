// SIGTERM, SIGINT, SIGUSR1 and SIGHUP in every phase: the program ends with 143 or 130 within a step and two seconds, with a
// checkpoint when it was training, and the same command goes on from there. A second signal ends it at once.
#include <algorithm>
#include <iostream>

#include "tests/e2e/run_files.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

namespace {

constexpr double kPatience = 2;  // seconds from the signal to the end; a step takes milliseconds here

struct Stopped {
  Outcome outcome;
  double took = 0;  // from the signal on
};

Stopped stop(Process& process, int signal) {
  const double sent = process.seconds();
  process.signal(signal);
  Stopped stopped;
  stopped.outcome = process.finish();
  stopped.took = stopped.outcome.seconds - sent;
  return stopped;
}

void check_stopped(const Stopped& stopped, int signal) {
  INFO(stopped.outcome.err);
  CHECK(stopped.outcome.code == 128 + signal);
  CHECK(stopped.took < kPatience);
  CHECK(stopped.outcome.err.find(cat("graft: stopped by signal ", signal)) != std::string::npos);
}

std::vector<std::string> checkpoints(const fs::path& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void pause(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace

TEST_CASE("a signal in training leaves a checkpoint of the last complete step", "[signals]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  const std::vector<std::string> endless = {"train.steps=1000000", "train.checkpoint_every=100000", "train.eval_every=0",
                                            "train.schedule=constant"};
  std::int64_t last = 0;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
    Process process(workshop.command("train", endless), {.directory = workshop.path()});
    REQUIRE(process.wait_for(last == 0 ? "1000000 steps of 5 rows" : cat("going on after step ", last, " of 1000000")));
    pause(0.2);
    const Stopped stopped = stop(process, signal);
    check_stopped(stopped, signal);
    const auto names = checkpoints(workshop / "run");
    REQUIRE(!names.empty());
    const std::int64_t step = std::stoll(names.back().substr(5));
    CHECK(step > last);
    last = step;
    CHECK(stopped.outcome.err.find(cat("stopped after step ", step, " of 1000000; the same command goes on from there")) !=
          std::string::npos);
    const auto lines = read_lines(workshop / "run/loss.jsonl");
    CHECK(static_cast<std::int64_t>(lines.size()) == step);
  }
}

TEST_CASE("documents that cannot be read any more end a run with their file's name", "[signals]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  Process process(workshop.command("train", {"train.steps=1000000", "train.eval_every=0", "train.schedule=constant"}),
                  {.directory = workshop.path()});
  REQUIRE(process.wait_for("1000000 steps of 5 rows"));
  std::string shard;
  for (const auto& entry : fs::directory_iterator(workshop / "corpus"))
    if (entry.path().filename().string().starts_with("train-")) shard = entry.path().filename().string();
  fs::resize_file(workshop / ("corpus/" + shard), 0);
  const Outcome outcome = process.finish();
  CHECK(outcome.code == 4);
  CHECK(outcome.err.find("graft: cannot read corpus/" + shard +
                         ": the disk failed, or the file was cut short while it was in use") != std::string::npos);
}

TEST_CASE("a signal inside a long pass ends it at the next layer, forward and backward, and the rerun has the same bytes",
          "[signals]") {
  const Workshop workshop({.layers = 24}, 400);
  REQUIRE(workshop.graft("prepare").code == 0);
  const std::vector<std::string> set = {"train.steps=1", "train.rows=300", "train.micro_rows=300", "train.eval_every=0",
                                        "eval.max_tokens=1"};
  double pass = 1e9;  // of two: beside other tests one may take twice as long, and a signal in its middle would come too late
  for (int i = 0; i < 2; ++i) {
    fs::remove_all(workshop / "run");
    REQUIRE(workshop.graft("train", set).code == 0);
    const double seconds = parse_json(read_lines(workshop / "run/metrics.jsonl").front(), "metrics.jsonl")["seconds"];
    pass = std::min(pass, seconds);
  }
  const auto expected = lasting(workshop / "run");
  for (const double at : {0.15, 0.5}) {
    fs::remove_all(workshop / "run");
    Process process(workshop.command("train", set), {.directory = workshop.path()});
    REQUIRE(process.wait_for("1 steps of 300 rows"));
    pause(at * pass);
    const Stopped stopped = stop(process, SIGTERM);
    std::cout << "stopped " << stopped.took << " s after a signal at " << at << " of a pass of " << pass << " s\n";
    check_stopped(stopped, SIGTERM);
    CHECK(stopped.took < pass / 3);  // without a look inside, what is left of it
    CHECK(stopped.outcome.err.find("stopped after step 0 of 1;") != std::string::npos);
    CHECK(workshop.graft("train", set).code == 0);
    CHECK(lasting(workshop / "run") == expected);
  }
}

TEST_CASE("a reader of the progress that goes away does not end a run; nohup's choice is kept", "[signals]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  const Launch unread{.directory = workshop.path(), .before = {"/bin/sh", "-c", "\"$@\" 2>&1 >/dev/null | true", "sh"}};
  Process(workshop.command("train"), unread).finish();
  CHECK(fs::exists(workshop / "run/train.json"));

  Process process(workshop.command("train", {"train.steps=100000", "train.checkpoint_every=100000"}, {"--fresh"}),
                  {.directory = workshop.path(), .before = {"/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"}});
  REQUIRE(process.wait_for("100000 steps of 5 rows"));
  process.signal(SIGHUP);
  pause(0.3);
  check_stopped(stop(process, SIGTERM), SIGTERM);
}

TEST_CASE("a signal in prepare keeps what is sealed, and the rerun adds the rest", "[signals]") {
  const Workshop workshop({}, 0);
  std::string lines;
  for (std::uint64_t i = 0; i < 4000; ++i) lines += Json{{"text", document(i, 200)}}.dump() + "\n";
  for (int i = 0; i < 24; ++i) write_file(workshop / ("docs/" + std::to_string(i) + ".jsonl"), lines);
  const std::vector<std::string> set = {"corpus.deduplicate=false", "corpus.shard_tokens=200000"};
  Process process(workshop.command("prepare", set), {.directory = workshop.path()});
  for (int i = 0; i < 600 && !fs::exists(workshop / "corpus/manifest.jsonl"); ++i) pause(0.05);
  check_stopped(stop(process, SIGTERM), SIGTERM);
  const auto sealed = workshop.files("corpus");
  REQUIRE(sealed.size() >= 2);
  REQUIRE(workshop.graft("prepare", set).code == 0);
  const auto all = workshop.files("corpus");
  CHECK(all.size() > sealed.size());
  for (const auto& [name, content] : sealed)
    if (name != "manifest.jsonl") CHECK(all.at(name) == content);
  CHECK(all.at("manifest.jsonl").starts_with(sealed.at("manifest.jsonl")));
  fs::remove_all(workshop / "corpus");
  REQUIRE(workshop.graft("prepare", set).code == 0);
  CHECK(workshop.files("corpus") == all);
}

TEST_CASE("a signal in an evaluation, in scoring and while generating", "[signals]") {
  const Workshop workshop({.context = 200000}, 400);
  REQUIRE(workshop.graft("prepare", {"corpus.heldout=0.5"}).code == 0);
  const std::vector<std::string> slow = {"train.eval_every=1", "eval.length=8", "train.steps=4"};
  {
    Process process(workshop.command("train", slow), {.directory = workshop.path()});
    REQUIRE(process.wait_for("[train] step 1: heldout"));  // the next is done at once after a step of milliseconds
    pause(0.05);
    check_stopped(stop(process, SIGTERM), SIGTERM);
    CHECK(!checkpoints(workshop / "run").empty());
    const Outcome resumed = workshop.graft("train", slow);
    CHECK(resumed.code == 0);
    CHECK(read_lines(workshop / "run/loss.jsonl").size() == 4 + 5);
  }
  {
    Process process(workshop.command("eval", {"eval.length=8"}), {.directory = workshop.path()});
    REQUIRE(process.wait_for("scoring base on heldout"));
    pause(0.02);
    check_stopped(stop(process, SIGINT), SIGINT);
  }
  {
    Process process(workshop.command("generate", {}, {"-n", "190000", "Note 3:"}), {.directory = workshop.path()});
    REQUIRE(process.wait_for("[model] loading"));
    pause(0.3);
    const Stopped stopped = stop(process, SIGTERM);
    check_stopped(stopped, SIGTERM);
    CHECK(!stopped.outcome.out.empty());
  }
}

TEST_CASE("a signal at any call that writes ends with 143, and the rerun with the same bytes", "[signals]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=3", "train.checkpoint_every=2", "export.formats=[peft, gguf-f16]"};
  const auto run = [&](long at) {
    return run_program(
        workshop.command("run", set),
        {.directory = workshop.path(),
         .environment = {{"LD_PRELOAD", GRAFT_FAULT_PRELOAD},
                         {"GRAFT_FAULT_DIR", workshop.path().string()},
                         {"GRAFT_FAULT_AT", std::to_string(at)},
                         {"GRAFT_FAULT_ERRNO", "TERM"},
                         {"GRAFT_FAULT_COUNT",
                          (fs::temp_directory_path() / ("graft-count-" + workshop.path().filename().string())).string()}}});
  };
  REQUIRE(run(0).code == 0);
  const fs::path counter = fs::temp_directory_path() / ("graft-count-" + workshop.path().filename().string());
  const long calls = std::stol(read_file(counter));
  fs::remove(counter);
  const auto expected = lasting(workshop / "run"), corpus = workshop.files("corpus"), exported = workshop.files("run/export");
  const long stride = std::max<long>(1, calls / repetitions("GRAFT_SIGNALS", 16));
  int stopped = 0, finished = 0;
  for (long k = 1; k <= calls; k += stride) {
    fs::remove_all(workshop / "run");
    fs::remove_all(workshop / "corpus");
    const Outcome outcome = run(k);
    INFO("call " << k << " of " << calls << ": exit " << outcome.code << "\n" << outcome.err);
    CHECK((outcome.code == 143 || outcome.code == 0));  // 0: nothing was left to do after this call
    (outcome.code == 143 ? stopped : finished) += 1;
    const Outcome again = workshop.graft("run", set);
    INFO(again.err);
    CHECK(again.code == 0);
    CHECK(lasting(workshop / "run") == expected);
    CHECK(workshop.files("corpus") == corpus);
    CHECK(workshop.files("run/export") == exported);
    CHECK(leftovers(workshop.path()).empty());
    fs::remove(counter);
  }
  std::cout << stopped << " signals at calls that write ended with 143, " << finished << " came when all was done\n";
  CHECK(stopped > finished);
}

TEST_CASE("a signal at any time of graft run", "[signals]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"export.formats=[peft, hf]"};
  Process whole(workshop.command("run", set), {.directory = workshop.path()});
  REQUIRE(whole.finish().code == 0);
  const auto expected = lasting(workshop / "run");
  const int times = repetitions("GRAFT_SIGNALS", 16) / 2;
  double slowest = 0;
  for (int i = 0; i < times; ++i) {
    fs::remove_all(workshop / "run");
    fs::remove_all(workshop / "corpus");
    const int signal = i % 2 ? SIGINT : SIGTERM;
    Process process(workshop.command("run", set), {.directory = workshop.path()});
    pause(0.02 + whole.seconds() * i / times);
    const Stopped stopped = stop(process, signal);
    INFO("at " << i << " of " << times << "\n" << stopped.outcome.err);
    CHECK((stopped.outcome.code == 128 + signal || stopped.outcome.code == 0));
    CHECK(stopped.took < kPatience);
    slowest = std::max(slowest, stopped.took);
    CHECK(workshop.graft("run", set).code == 0);
    CHECK(lasting(workshop / "run") == expected);
  }
  std::cout << times << " signals over the time of graft run, the slowest end took " << slowest << " s\n";
}

TEST_CASE("a second signal ends the program at once", "[signals]") {
  const Workshop workshop({}, 400);
  REQUIRE(workshop.graft("prepare").code == 0);
  // A layer over so many rows takes longer than the two signals are apart; which of them comes first is the kernel's choice.
  Process process(
      workshop.command("train", {"train.length=256", "train.rows=4000", "train.micro_rows=4000", "train.eval_every=0"}),
      {.directory = workshop.path()});
  REQUIRE(process.wait_for("steps of 4000 rows"));
  pause(0.5);
  process.signal(SIGTERM);
  const Stopped stopped = stop(process, SIGINT);
  INFO(stopped.outcome.err);
  CHECK((stopped.outcome.code == 130 || stopped.outcome.code == 143));
  CHECK(stopped.took < 0.5);
  CHECK(stopped.outcome.err.find("a second signal ends it at once") != std::string::npos);
  CHECK(stopped.outcome.err.find("graft: stopped") == std::string::npos);
  CHECK(!fs::exists(workshop / "run/checkpoints"));
}

TEST_CASE("a signal while a real base is loaded", "[signals]") {
  const char* base = std::getenv("GRAFT_SMOLLM2_GGUF");
  if (base == nullptr || !fs::exists(base)) {
    WARN("GRAFT_SMOLLM2_GGUF is not set: the check was left out");
    return;
  }
  const Workshop workshop({}, 3);
  for (const double wait : {0.1, 0.4, 0.8, 1.2}) {
    Process process(workshop.command("generate", {cat("base=", base)}, {"-n", "2000", "--temperature", "1", "Once"}),
                    {.directory = workshop.path()});
    pause(wait);
    const Stopped stopped = stop(process, SIGTERM);
    INFO("after " << wait << " s\n" << stopped.outcome.err);
    CHECK(stopped.outcome.code == 143);
    CHECK(stopped.took < kPatience);
  }
}
