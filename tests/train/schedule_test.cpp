#include "train/schedule.h"

#include <cmath>

#include "tests/support/catch.h"

namespace graft::train {
namespace {

TrainConfig config(const char* schedule, double warmup, double min_lr) {
  TrainConfig c;
  c.schedule = schedule;
  c.warmup = warmup;
  c.min_lr = min_lr;
  c.learning_rate = 2;
  return c;
}

}  // namespace

TEST_CASE("warmup rises linearly from the first step and joins the schedule at its peak", "[train]") {
  for (const char* schedule : {"constant", "linear", "cosine"}) {
    const auto c = config(schedule, 0.04, 0);
    for (int step = 0; step <= 4; ++step) CHECK(learning_rate(c, step, 100) == Approx(2.0 * (step + 1) / 5));
  }
}

TEST_CASE("schedules after warmup follow their closed forms", "[train]") {
  const double pi = std::acos(-1.0);
  for (int step = 10; step < 100; ++step) {
    const double p = (step - 10) / 90.0;
    CHECK(learning_rate(config("constant", 0.1, 0.3), step, 100) == 2);
    CHECK(learning_rate(config("linear", 0.1, 0), step, 100) == Approx(2 * (1 - p)));
    CHECK(learning_rate(config("linear", 0.1, 0.25), step, 100) == Approx(0.5 + 1.5 * (1 - p)));
    CHECK(learning_rate(config("cosine", 0.1, 0), step, 100) == Approx(2 * 0.5 * (1 + std::cos(pi * p))));
    CHECK(learning_rate(config("cosine", 0.1, 0.1), step, 100) == Approx(0.2 + 1.8 * 0.5 * (1 + std::cos(pi * p))));
  }
}

TEST_CASE("the shortest runs have a learning rate", "[train]") {
  for (const char* schedule : {"constant", "linear", "cosine"})
    for (const double warmup : {0.0, 0.5, 1.0}) {
      CHECK(learning_rate(config(schedule, warmup, 0), 0, 1) == 2);
      for (int step = 0; step < 3; ++step) CHECK(learning_rate(config(schedule, warmup, 0), step, 3) > 0);
    }
}

}  // namespace graft::train
