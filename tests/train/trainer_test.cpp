// The loop, with a decoder and a source made for tests.
#include "train/trainer.h"

#include <ATen/ATen.h>
#include <signal.h>

#include <cmath>
#include <set>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/fake_batches.h"
#include "tests/support/fake_decoder.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "train/schedule.h"

namespace graft::train {
namespace {

using testing::FakeBatches;
using testing::FakeDecoder;
using testing::message_of;
using testing::TempDir;

TrainConfig small() {
  TrainConfig c;
  c.length = 16;
  c.rows = 4;
  c.micro_rows = 2;
  c.steps = 12;
  c.learning_rate = 0.02;
  c.weight_decay = 0.1;
  c.checkpoint_every = 4;
  c.seed = 3;
  return c;
}

// Everything that one process of a run opens.
struct Process {
  TrainConfig config;
  FakeDecoder decoder;
  FakeBatches batches{10, 16};
  std::unique_ptr<lora::AdapterSet> set;
  std::unique_ptr<Parameters> parameters;
  Checkpoints checkpoints;
  TrainState state;
  Trainer::Evaluate evaluate;

  Process(const TrainConfig& c, const fs::path& run_dir)
      : config(c),
        set(lora::create({.rank = 2, .alpha = 4, .target_modules = {"*"}}, decoder, 1)),
        checkpoints(run_dir / "checkpoints", {{"a", 1}}),
        run_dir_(run_dir) {
    graft::create_directories(run_dir);
    parameters = std::make_unique<Parameters>(Parameters{*set, at::zeros_like(set->parameters), at::zeros_like(set->parameters)});
    lora::attach(*set, decoder);
    if (const auto loaded = checkpoints.load_newest(*parameters))
      state = *loaded;
    else
      state.cursor.seed = 3;
    evaluate = [this] {
      eval::HeldoutScore score;
      score.set = "heldout";
      score.nll = set->parameters.to(at::kDouble).norm().item<double>();  // any function of the adapter
      score.tokens = score.bytes = 10;
      return std::vector<eval::HeldoutScore>{score};
    };
  }
  std::vector<eval::HeldoutScore> run() {
    Metrics metrics(run_dir_, state.logs);
    return Trainer(config, decoder, batches, *parameters, state, metrics, checkpoints, evaluate).run();
  }

 private:
  fs::path run_dir_;
};

struct Outcome {
  at::Tensor parameters, m, v;
  std::string log;
};
Outcome outcome(const Process& p, const fs::path& run_dir) {
  return {p.set->parameters.clone(), p.parameters->m.clone(), p.parameters->v.clone(), read_file(run_dir / "loss.jsonl")};
}
Outcome uninterrupted(const TrainConfig& config) {
  TempDir dir;
  Process p(config, dir.path);
  p.run();
  return outcome(p, dir.path);
}
void check_equal(const Outcome& a, const Outcome& b) {
  CHECK(testing::same_bits(a.parameters, b.parameters));
  CHECK(testing::same_bits(a.m, b.m));
  CHECK(testing::same_bits(a.v, b.v));
  CHECK(a.log == b.log);
}

}  // namespace

TEST_CASE("the number of steps covers the epochs", "[train]") {
  TrainConfig c = small();
  c.steps = 0;
  c.epochs = 1;
  CHECK(total_steps(c, FakeBatches(10, 16)) == 3);
  c.epochs = 2;
  CHECK(total_steps(c, FakeBatches(10, 16)) == 5);
  c.epochs = 0.001;
  CHECK(total_steps(c, FakeBatches(10, 16)) == 1);
  c.steps = 7;
  CHECK(total_steps(c, FakeBatches(10, 16)) == 7);
  CHECK_THROWS_AS(total_steps(c, FakeBatches(0, 16)), DataError);
}

TEST_CASE("a corpus of few rows is said to be one", "[train]") {
  TrainConfig c = small();
  c.steps = 0;
  c.rows = 16;
  CHECK(too_few_rows(c, FakeBatches(3, 16)) ==
        "the corpus packs into 3 rows, and one step takes 16 (train.rows): it repeats some; 1 step only; lower "
        "train.rows or raise train.epochs");
  CHECK(too_few_rows(c, FakeBatches(144, 16)) == "9 steps only; lower train.rows or raise train.epochs");
  CHECK(too_few_rows(c, FakeBatches(145, 16)).empty());
  c.steps = 3;
  CHECK(too_few_rows(c, FakeBatches(16, 16)).empty());
  CHECK(too_few_rows(c, FakeBatches(15, 16)) ==
        "the corpus packs into 15 rows, and one step takes 16 (train.rows): it repeats some");
}

TEST_CASE("a run learns, logs, evaluates and keeps its newest checkpoints", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.steps = 40;
  c.eval_every = 20;
  c.keep_checkpoints = 2;
  Process p(c, dir.path);
  const auto scores = p.run();
  REQUIRE(scores.size() == 1);
  CHECK(p.state.step == 40);
  CHECK(p.state.updates == 40);
  CHECK(p.state.last_loss < 0.9 * p.state.first_loss);
  std::vector<Json> lines;
  for (const auto& line : read_lines(dir / "loss.jsonl")) lines.push_back(parse_json(line, "loss.jsonl"));
  REQUIRE(lines.size() == 43);  // evaluations of steps 0, 20 and 40 between the steps
  CHECK(lines[0]["set"] == "heldout");
  CHECK(lines[0]["step"] == 0);
  CHECK(lines[1]["step"] == 1);
  CHECK(lines[21]["set"] == "heldout");
  CHECK(lines[42]["step"] == 40);
  CHECK(lines[1]["loss"].get<double>() == p.state.first_loss);
  CHECK(lines[2]["learning_rate"].get<double>() == learning_rate(c, 1, 40));
  std::size_t checkpoints = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(dir / "checkpoints")) ++checkpoints;
  CHECK(checkpoints == 2);
  CHECK(p.checkpoints.newest()->filename() == "step-00000040");
}

TEST_CASE("the decoder is told of z-loss and label smoothing", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.steps = 1;
  c.z_loss = 1e-4;
  c.label_smoothing = 0.1;
  Process p(c, dir.path);
  p.run();
  CHECK((p.decoder.loss_terms().z_loss == 1e-4 && p.decoder.loss_terms().label_smoothing == 0.1));
}

TEST_CASE("every adapter tensor has moved: B after one step, A as soon as B is not zero", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.steps = 1;
  c.weight_decay = 0;
  Process p(c, dir.path);
  p.set->parameters.add_(0.01);  // B = 0 makes the gradient of A exactly zero
  const at::Tensor before = p.set->parameters.clone();
  p.run();
  CHECK(p.set->parameters.ne(before).sum().item<std::int64_t>() == p.set->count());
}

TEST_CASE("accumulating micro-batches equals one large batch", "[train]") {
  std::vector<Outcome> all;
  for (const std::int64_t micro : {1, 2, 3, 4, 9}) {
    TrainConfig c = small();
    c.micro_rows = micro;
    all.push_back(uninterrupted(c));
  }
  for (const auto& other : all) CHECK(testing::relative_error(other.parameters, all.back().parameters) < 1e-6);
}

TEST_CASE("the same rows are read in the same order whatever the micro-batch", "[train]") {
  std::set<std::vector<std::int64_t>> orders;
  for (const std::int64_t micro : {1, 2, 3, 5}) {
    TempDir dir;
    TrainConfig c = small();
    c.rows = 5;
    c.micro_rows = micro;
    Process p(c, dir.path);
    p.run();
    CHECK(p.batches.consumed.size() == 60);
    orders.insert(p.batches.consumed);
  }
  CHECK(orders.size() == 1);
}

TEST_CASE("one step is AdamW in double precision on the gradient of the whole batch", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.steps = 1;
  c.clip = 0.05;
  Process p(c, dir.path);
  p.set->parameters.add_(0.01);
  const at::Tensor start = p.set->parameters.to(at::kDouble).clone();
  p.run();
  // The same loss by autograd-free finite differences would be slow; the fake decoder's own gradient is taken in one batch.
  const at::Tensor after = p.set->parameters.clone();
  Process q(c, dir / "other");
  q.set->parameters.copy_(start);
  data::Cursor cursor{3, 0, 0};
  const data::Batch batch = q.batches.read(cursor, 4);
  const auto tensor = [](const std::vector<std::int32_t>& v) {
    return at::tensor(std::vector<std::int64_t>(v.begin(), v.end()));
  };
  q.decoder.train_step({tensor(batch.tokens), tensor(batch.positions), batch.starts}, tensor(batch.labels),
                       1.0 / static_cast<double>(batch.trained_tokens()), model::Recompute::none, 0);
  const at::Tensor g0 = q.set->gradients.to(at::kDouble);
  const double norm = g0.norm().item<double>(), lr = learning_rate(c, 0, 1);
  REQUIRE(norm > c.clip);
  const at::Tensor g = g0 * (c.clip / (norm + 1e-6)), m = g * (1 - c.beta1), v = g * g * (1 - c.beta2);
  const at::Tensor want = start * (1 - lr * c.weight_decay) - lr * (m / (1 - c.beta1)) / ((v / (1 - c.beta2)).sqrt() + c.epsilon);
  CHECK(testing::relative_error(after - start, want - start) < 1e-4);  // Adam divides g by |g|: f32 noise of small g shows
  CHECK((after.to(at::kDouble) - want).abs().max().item<double>() < 1e-6);
}

TEST_CASE("stopped at any step and resumed, a run ends with the same bits and the same loss log", "[train]") {
  TrainConfig c = small();
  c.eval_every = 5;
  c.steps = 40;  // ten rows an epoch: four rows a step cross every kind of boundary
  const Outcome whole = uninterrupted(c);
  for (std::int64_t k = 0; k < 40; ++k) {
    CAPTURE(k);
    TempDir dir;
    {
      Process p(c, dir.path);
      p.decoder.on_train_step = [&](std::int64_t calls) {  // in the middle of step k's accumulation
        if (calls == 2 * k + 1) throw Interrupted(SIGTERM);
        return false;
      };
      CHECK_THROWS_AS(p.run(), Interrupted);
      CHECK(p.checkpoints.newest()->filename().string().ends_with(std::to_string(k)));
    }
    Process p(c, dir.path);
    CHECK(p.state.step == k);
    p.run();
    check_equal(outcome(p, dir.path), whole);
  }
}

TEST_CASE("a run that dies without a checkpoint of its last steps does them again, and logs them once", "[train]") {
  TrainConfig c = small();
  const Outcome whole = uninterrupted(c);
  TempDir dir;
  {
    Process p(c, dir.path);
    p.decoder.on_train_step = [](std::int64_t calls) -> bool {
      if (calls == 21) throw std::runtime_error("killed");  // in step 11, the newest checkpoint is of step 8
      return false;
    };
    CHECK_THROWS_AS(p.run(), std::runtime_error);
  }
  Process p(c, dir.path);
  CHECK(p.state.step == 8);
  p.run();
  check_equal(outcome(p, dir.path), whole);
}

TEST_CASE("checkpoints are also due by the clock, which changes no bit", "[train]") {
  TrainConfig c = small();
  c.eval_every = 5;
  const Outcome whole = uninterrupted(c);
  c.checkpoint_every = 1000;
  c.keep_checkpoints = 100;
  const auto checkpoints_with = [&](double minutes) {
    TempDir dir;
    c.checkpoint_minutes = minutes;
    Process p(c, dir.path);
    p.run();
    check_equal(outcome(p, dir.path), whole);
    return std::distance(fs::directory_iterator(dir / "checkpoints"), fs::directory_iterator());
  };
  CHECK(checkpoints_with(1e-9) == 12);  // minutes that have passed after each step
  CHECK(checkpoints_with(60) == 1);     // the last
  CHECK(checkpoints_with(0) == 1);
}

TEST_CASE("stopped inside an evaluation, the evaluation is done after the resume and logged once", "[train]") {
  TrainConfig c = small();
  c.eval_every = 4;
  const Outcome whole = uninterrupted(c);
  for (const int nth : {0, 1, 2, 3}) {
    TempDir dir;
    {
      Process p(c, dir.path);
      int count = 0;
      const auto inner = p.evaluate;
      p.evaluate = [&] {
        if (count++ == nth) throw Interrupted(SIGINT);
        return inner();
      };
      CHECK_THROWS_AS(p.run(), Interrupted);
    }
    Process p(c, dir.path);
    p.run();
    check_equal(outcome(p, dir.path), whole);
  }
}

TEST_CASE("a checkpoint that is due is written before the evaluation, which may not come to its end", "[train]") {
  const TempDir dir;
  TrainConfig config = small();
  config.eval_every = 4;
  Process process(config, dir.path);
  process.evaluate = [inner = process.evaluate, calls = 0]() mutable {
    if (calls++ > 0) throw DataError("no power");  // the first is of step 0
    return inner();
  };
  CHECK_THROWS_AS(process.run(), DataError);
  CHECK(Process(config, dir.path).state.step == 4);
}

TEST_CASE("a damaged newest checkpoint costs time, not bits", "[train]") {
  TrainConfig c = small();
  const Outcome whole = uninterrupted(c);
  TempDir dir;
  Process(c, dir.path).run();
  fs::resize_file(dir / "checkpoints/step-00000012/optimizer.safetensors", 100);
  Process p(c, dir.path);
  CHECK(p.state.step == 8);
  p.run();
  check_equal(outcome(p, dir.path), whole);
}

TEST_CASE("a step with a gradient that is not finite changes no bit and is counted", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.steps = 6;
  Process p(c, dir.path);
  at::Tensor parameters, m, v;
  p.decoder.on_train_step = [&](std::int64_t calls) {  // two calls a step: step 4 is poisoned in its second micro-batch
    if (calls == 6) {
      parameters = p.set->parameters.clone();
      m = p.parameters->m.clone();
      v = p.parameters->v.clone();
    }
    if (calls == 8) {
      CHECK(testing::same_bits(p.set->parameters, parameters));
      CHECK(testing::same_bits(p.parameters->m, m));
      CHECK(testing::same_bits(p.parameters->v, v));
    }
    return calls == 7;
  };
  p.run();
  REQUIRE(parameters.defined());
  CHECK(p.state.step == 6);
  CHECK(p.state.updates == 5);
  CHECK(p.state.bad_in_a_row == 0);
  const auto line = parse_json(read_lines(dir / "loss.jsonl")[3], "loss.jsonl");
  CHECK(line["skipped"] == "the gradient is not finite");
  CHECK(line["gradient_norm"].is_null());
}

TEST_CASE("after max_bad_steps in a row the run stops and names its last good checkpoint", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.max_bad_steps = 3;
  Process p(c, dir.path);
  p.decoder.on_train_step = [](std::int64_t calls) { return calls >= 10; };
  const auto text = message_of<DataError>([&] { p.run(); });
  CHECK(
      text ==
      cat("the loss or gradient was not finite in 3 steps in a row (train.max_bad_steps), the last at step 8; look at "
          "the data, or begin anew (--fresh, or another run_dir) with a lower train.learning_rate. The last good checkpoint is ",
          (dir / "checkpoints/step-00000004").string()));
  CHECK(at::isfinite(p.set->parameters).all().item<bool>());

  TempDir early;
  Process q(c, early.path);
  q.decoder.on_train_step = [](std::int64_t) { return true; };
  CHECK(message_of<DataError>([&] { q.run(); }).find("none: this run had not reached one") != std::string::npos);
}

TEST_CASE("bad steps in a row are counted across a resume", "[train]") {
  TempDir dir;
  TrainConfig c = small();
  c.max_bad_steps = 4;
  for (int process = 0; process < 2; ++process) {
    Process p(c, dir.path);
    const std::int64_t done = p.state.step;
    p.decoder.on_train_step = [&](std::int64_t calls) {
      if (process == 0 && calls == 2 * 3) throw Interrupted(SIGTERM);
      return calls / 2 + done >= 1;
    };
    if (process == 0)
      CHECK_THROWS_AS(p.run(), Interrupted);
    else
      CHECK(message_of<DataError>([&] { p.run(); }).find("the last at step 5") != std::string::npos);
  }
}

}  // namespace graft::train
