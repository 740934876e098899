#include "core/rng.h"

#include <cmath>
#include <set>
#include <vector>

#include "tests/support/catch.h"

using namespace graft;

TEST_CASE("Philox gives the published values", "[rng]") {  // kat_vectors of Random123, philox4x32 with 10 rounds
  using Words = std::array<std::uint32_t, 4>;
  CHECK(philox(0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~0ull, ~0ull, ~0ull) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("streams, substreams and seeds are apart", "[rng]") {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed : {0, 1})
    for (Stream stream : {Stream::init, Stream::shuffle, Stream::dropout})
      for (std::uint64_t substream : {0, 1, 2})
        for (std::uint64_t counter = 0; counter < 100; ++counter) seen.insert(Random(seed, stream, substream).bits(counter));
  CHECK(seen.size() == 2 * 3 * 3 * 100);
}

TEST_CASE("uniform and normal numbers have their moments", "[rng]") {
  const Random random(42, Stream::init);
  constexpr int n = 200000;
  double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0, normal_fourth = 0, lowest = 1, highest = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(static_cast<std::uint64_t>(i)), z = random.normal(static_cast<std::uint64_t>(i));
    sum += u;
    squares += u * u;
    lowest = std::min(lowest, u);
    highest = std::max(highest, u);
    normal_sum += z;
    normal_squares += z * z;
    normal_fourth += z * z * z * z;
  }
  CHECK(lowest >= 0);
  CHECK(highest < 1);
  // Five standard errors each.
  CHECK(std::fabs(sum / n - 0.5) < 5 * std::sqrt(1. / 12 / n));
  CHECK(std::fabs(squares / n - 1. / 3) < 5 * std::sqrt(4. / 45 / n));
  CHECK(std::fabs(normal_sum / n) < 5 * std::sqrt(1. / n));
  CHECK(std::fabs(normal_squares / n - 1) < 5 * std::sqrt(2. / n));
  CHECK(std::fabs(normal_fourth / n - 3) < 5 * std::sqrt(96. / n));
}

TEST_CASE("a permutation visits everything once", "[rng]") {
  for (std::uint64_t n : {1, 2, 3, 4, 5, 15, 16, 17, 64, 65, 1000, 4096, 4097, 50000}) {
    for (std::uint64_t epoch : {0, 1}) {
      const Permutation permutation(n, 9, epoch);
      std::vector<bool> seen(n);
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t image = permutation(i);
        REQUIRE(image < n);
        REQUIRE_FALSE(seen[image]);
        seen[image] = true;
      }
    }
  }
  const std::uint64_t large = (1ull << 62) + 12345;
  CHECK(Permutation(large, 1, 0)(large - 1) < large);
}

TEST_CASE("a permutation mixes, and differs by seed and epoch", "[rng]") {
  constexpr std::uint64_t n = 20000;
  const Permutation a(n, 1, 0), b(n, 1, 1), c(n, 2, 0);
  int same_epoch = 0, same_seed = 0;
  double product = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    same_epoch += a(i) == b(i);
    same_seed += a(i) == c(i);
    const double mean = (n - 1) / 2.;
    product += (static_cast<double>(i) - mean) * (static_cast<double>(a(i)) - mean);
  }
  CHECK(same_epoch < 10);  // 1 expected
  CHECK(same_seed < 10);
  const double variance = (static_cast<double>(n) * n - 1) / 12;
  CHECK(std::fabs(product / n / variance) < 5 / std::sqrt(static_cast<double>(n)));  // rank correlation
  // Every order of three things occurs about equally often over epochs.
  int counts[27] = {};
  for (std::uint64_t epoch = 0; epoch < 6000; ++epoch) {
    const Permutation small(3, 5, epoch);
    ++counts[small(0) * 9 + small(1) * 3 + small(2)];
  }
  for (int code : {5, 7, 11, 15, 19, 21}) CHECK(std::abs(counts[code] - 1000) < 5 * 29);  // (0,1,2) is 5, ... (2,1,0) is 21
}
