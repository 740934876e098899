// R1 and R5: a run that is killed at any instant, or taken up after any step, ends with the bytes of one that was never stopped.
#include <iostream>
#include <random>

#include "tests/e2e/run_files.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("killed at random instants and resumed, training ends with the same bytes", "[resume][kill]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  Process whole(workshop.command("train"), {.directory = workshop.path()});
  REQUIRE(whole.wait_for("40 steps of 5 rows"));
  const double begun = whole.seconds();
  REQUIRE(whole.finish().code == 0);
  const double end = whole.seconds();
  const auto expected = lasting(workshop / "run");

  const int kills = repetitions("GRAFT_KILLS", 30);
  std::mt19937 generator(1);
  int equal = 0, in_training = 0;
  for (int i = 0; i < kills; ++i) {
    fs::remove_all(workshop / "run");
    Process killed(workshop.command("train"), {.directory = workshop.path()});
    // Mostly while it trains: from the first step to the end, which takes longer on a machine that is busy.
    const double wait = std::uniform_real_distribution<double>(0, i % 5 == 0 ? end : end - begun)(generator);
    if (i % 5 != 0) killed.wait_for("40 steps of 5 rows");
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
    killed.signal(SIGKILL);
    const int code = killed.finish().code;
    in_training += code == 137 && fs::exists(workshop / "run/loss.jsonl");
    const Outcome resumed = workshop.graft("train");
    INFO("kill " << i << " after " << wait << " s, exit " << code << "\n" << resumed.err);
    CHECK(resumed.code == 0);
    CHECK(lasting(workshop / "run") == expected);
    CHECK(leftovers(workshop / "run").empty());
    equal += lasting(workshop / "run") == expected;
  }
  std::cout << equal << " of " << kills << " killed runs ended with the same bytes; " << in_training
            << " kills hit the training\n";
  CHECK(in_training >= kills / 3);
}

TEST_CASE("killed at random instants, the whole of graft run ends with the same bytes", "[resume][kill]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=12", "export.formats=[peft, gguf-f16]"};
  Process whole(workshop.command("run", set), {.directory = workshop.path()});
  REQUIRE(whole.finish().code == 0);
  const auto expected = lasting(workshop / "run"), corpus = workshop.files("corpus"), exported = workshop.files("run/export");

  const int kills = std::max(1, repetitions("GRAFT_KILLS", 30) / 3);
  std::mt19937 generator(2);
  for (int i = 0; i < kills; ++i) {
    fs::remove_all(workshop / "run");
    fs::remove_all(workshop / "corpus");
    int deaths = 0;
    Outcome last;
    do {  // the same run is killed up to three times
      Process process(workshop.command("run", set), {.directory = workshop.path()});
      if (deaths < 3) {
        std::this_thread::sleep_for(
            std::chrono::duration<double>(std::uniform_real_distribution<double>(0.1, whole.seconds())(generator)));
        process.signal(SIGKILL);
      }
      last = process.finish();
    } while (last.code == 137 && ++deaths < 4);
    INFO("run " << i << ", " << deaths << " kills\n" << last.err);
    CHECK(last.code == 0);
    CHECK(lasting(workshop / "run") == expected);
    CHECK(workshop.files("corpus") == corpus);
    CHECK(workshop.files("run/export") == exported);
    CHECK(fs::exists(workshop / "run/report.html"));
    CHECK(leftovers(workshop.path()).empty());
  }
}

TEST_CASE("taken up after each step of 40, training ends with the same bytes", "[resume]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  const std::vector<std::string> set = {"train.checkpoint_every=1", "train.keep_checkpoints=100", "lora.dropout=0.1"};
  REQUIRE(workshop.graft("train", set).code == 0);
  const auto expected = lasting(workshop / "run");

  // Rows are accumulated over micro-batches that do not divide them, and an epoch ends inside a step.
  std::int64_t epochs = 0, ends_inside = 0;
  int equal = 0;
  for (int k = 1; k < 40; ++k) {
    const std::string name = cat("step-000000", k < 10 ? "0" : "", k), other = cat("run-", k);
    const Json state = read_json(workshop / ("run/checkpoints/" + name + "/state.json"))["state"];
    ends_inside += state["cursor_epoch"] > epochs && state["cursor_row"] != 0;
    epochs = state["cursor_epoch"];
    fs::create_directories(workshop / (other + "/checkpoints"));
    for (const char* file : {"run.json", "loss.jsonl", "metrics.jsonl"})
      fs::copy(workshop / "run" / file, workshop / other / file);
    fs::copy(workshop / "run/tensorboard", workshop / other / "tensorboard");
    fs::copy(workshop / ("run/checkpoints/" + name), workshop / (other + "/checkpoints/" + name));
    std::vector<std::string> again = set;
    again.push_back("run_dir=" + other);
    const Outcome resumed = workshop.graft("train", again, {"--resume"});
    INFO("step " << k << "\n" << resumed.err);
    CHECK(resumed.code == 0);
    CHECK(resumed.err.find(cat("going on after step ", k, " of 40")) != std::string::npos);
    CHECK(lasting(workshop / other) == expected);
    equal += lasting(workshop / other) == expected;
    fs::remove_all(workshop / other);
  }
  CHECK(epochs >= 1);
  CHECK(ends_inside >= 1);
  std::cout << equal << " of 39 steps: resumed after it, the run ended with the same bytes\n";
}

TEST_CASE("merge-aware training is taken up and killed inside its phase without changing a byte", "[resume][merge_aware]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  const std::vector<std::string> set = {"train.merge_aware.format=gguf-q4_0", "train.merge_aware.share=0.5", "lora.dropout=0.1",
                                        "train.checkpoint_every=3", "train.keep_checkpoints=100"};
  Process whole(workshop.command("train", set), {.directory = workshop.path()});
  REQUIRE(whole.finish().code == 0);
  const auto expected = lasting(workshop / "run");
  for (const char* checkpoint : {"18", "21", "33", "39"}) {  // the phase begins after 20 steps
    const fs::path other = workshop / cat("run-", checkpoint);
    fs::copy(workshop / "run", other, fs::copy_options::recursive);
    fs::remove(other / "train.json");
    for (const auto& entry : fs::directory_iterator(workshop / "run/checkpoints"))
      if (entry.path().filename().string() > cat("step-000000", checkpoint))
        fs::remove_all(other / "checkpoints" / entry.path().filename());
    std::vector<std::string> again = set;
    again.push_back(cat("run_dir=run-", checkpoint));
    const Outcome resumed = workshop.graft("train", again, {"--resume"});
    INFO(resumed.err);
    CHECK(resumed.code == 0);
    CHECK(resumed.err.find(cat("going on after step ", checkpoint, " of 40")) != std::string::npos);
    CHECK(lasting(other) == expected);
  }
  int hits = 0;
  for (int kill = 0; kill < 3; ++kill) {
    fs::remove_all(workshop / "run");
    Process killed(workshop.command("train", set), {.directory = workshop.path()});
    const fs::path inside = workshop / cat("run/checkpoints/step-000000", 24 + 6 * kill);
    while (!fs::exists(inside) && killed.seconds() < 60) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    killed.signal(SIGKILL);
    hits += killed.finish().code == 137;
    const Outcome resumed = workshop.graft("train", set);
    INFO(resumed.err);
    CHECK(resumed.code == 0);
    CHECK(lasting(workshop / "run") == expected);
  }
  CHECK(hits >= 1);
}

TEST_CASE("two runs of one config are the same bytes, however often they are saved and scored", "[resume]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train").code == 0);
  const auto first = lasting(workshop / "run");
  REQUIRE(workshop.graft("train", {}, {"--fresh"}).code == 0);
  CHECK(lasting(workshop / "run") == first);
  // How often it is saved and scored is no part of what a run is; only the log's lines of evaluations differ.
  REQUIRE(workshop.graft("train", {"run_dir=other", "train.checkpoint_every=1", "train.eval_every=0"}).code == 0);
  CHECK(read_file(workshop / "other/adapter/adapter_model.safetensors") == first.at("adapter/adapter_model.safetensors"));
}
