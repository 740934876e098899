// The interval of a ratio: what it is by its definition, and how often it holds the true one.
#include "eval/interval.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/catch.h"

using namespace graft;

TEST_CASE("at the ends of the interval the difference is just significant", "[interval]") {
  // t of the mean of x - R y, and its 97.5 % points as R's qt() prints them.
  const auto t_of = [](const std::vector<double>& x, const std::vector<double>& y, double ratio) {
    const auto n = static_cast<double>(x.size());
    double sum = 0, squares = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] - ratio * y[i];
    for (std::size_t i = 0; i < x.size(); ++i) squares += std::pow(x[i] - ratio * y[i] - sum / n, 2);
    return sum / n / std::sqrt(squares / (n * (n - 1)));
  };
  std::mt19937 generator(3);
  std::normal_distribution<double> noise;
  struct Sample {
    int documents;
    double quantile;
  };
  for (const Sample& sample : {Sample{2, 12.7062}, {3, 4.3027}, {12, 2.2010}, {31, 2.0423}, {200, 1.9720}}) {
    INFO(sample.documents);
    std::vector<double> x, y;
    for (int i = 0; i < sample.documents; ++i) {
      y.push_back(10 + 0.1 * noise(generator));
      x.push_back(0.8 * y.back() + 0.1 * noise(generator));
    }
    const eval::Interval found = eval::ratio_interval(x, y);
    CHECK(t_of(x, y, found.low) == Approx(sample.quantile).epsilon(0.002));
    CHECK(t_of(x, y, found.high) == Approx(-sample.quantile).epsilon(0.002));
  }
}

TEST_CASE("documents that do not tell say nothing", "[interval]") {
  const auto unbounded = [](const std::vector<double>& x, const std::vector<double>& y) {
    const eval::Interval found = eval::ratio_interval(x, y);
    return std::isinf(found.low) && found.low < 0 && std::isinf(found.high) && found.high > 0;
  };
  CHECK(unbounded({}, {}));
  CHECK(unbounded({3}, {4}));               // one document
  CHECK(unbounded({3, 5, 1}, {5, -4, 1}));  // a gain that is no different from none
  CHECK(unbounded({3, std::numeric_limits<double>::quiet_NaN(), 1}, {4, 5, 4}));
  CHECK(unbounded({3, 1, 1}, {4, std::numeric_limits<double>::infinity(), 4}));
  const eval::Interval same = eval::ratio_interval(std::vector<double>{5, 5.5, 6}, std::vector<double>{10, 11, 12});
  CHECK(same.low == Approx(0.5));
  CHECK(same.high == Approx(0.5));
}

// 20,000 held-out sets of 12 documents of very different lengths, whose files keep just what is asked for: 2.5 % of them lie
// below it significantly, within four standard errors (0.44 %) and what lengths that are not normal do.
TEST_CASE("a file at the threshold is refused as seldom as the interval says", "[interval]") {
  std::mt19937 generator(7);
  std::normal_distribution<double> noise;
  int below = 0;
  constexpr int kSets = 20'000;
  for (int set = 0; set < kSets; ++set) {
    std::vector<double> x, y;
    for (int document = 0; document < 12; ++document) {
      const double length = std::exp(0.7 * noise(generator));
      y.push_back(length * (1 + 0.3 * noise(generator)));
      x.push_back(0.8 * y.back() + 0.2 * length * noise(generator));
    }
    below += eval::ratio_interval(x, y).high < 0.8;
  }
  CHECK(std::fabs(below / static_cast<double>(kSets) - 0.025) < 0.015);
}
