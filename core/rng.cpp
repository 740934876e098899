#include "core/rng.h"

#include <bit>
#include <cassert>
#include <cmath>
#include <numbers>

namespace graft {

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t counter_high, std::uint64_t counter_low) {
  auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  std::array<std::uint32_t, 4> c = {low(counter_low), high(counter_low), low(counter_high), high(counter_high)};
  std::uint32_t key0 = low(seed), key1 = high(seed);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * c[0], product1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {high(product1) ^ c[1] ^ key0, low(product1), high(product0) ^ c[3] ^ key1, low(product0)};
    key0 += 0x9E3779B9;  // golden ratio
    key1 += 0xBB67AE85;  // sqrt(3) - 1
  }
  return c;
}

// The upper counter word holds the stream in 8 bits and the substream in 56, so that no two uses meet.
Random::Random(std::uint64_t seed, Stream stream, std::uint64_t substream)
    : seed_(seed), high_(static_cast<std::uint64_t>(stream) << 56 | substream) {
  assert(substream >> 56 == 0);
}

std::uint64_t Random::bits(std::uint64_t counter) const {
  const auto words = philox(seed_, high_, counter);
  return std::uint64_t{words[1]} << 32 | words[0];
}

double Random::uniform(std::uint64_t counter) const { return static_cast<double>(bits(counter) >> 11) * 0x1p-53; }

double Random::normal(std::uint64_t counter) const {
  const auto words = philox(seed_, high_, counter);
  const std::uint64_t first = std::uint64_t{words[1]} << 32 | words[0], second = std::uint64_t{words[3]} << 32 | words[2];
  const double radius = static_cast<double>((first >> 11) + 1) * 0x1p-53;  // (0, 1]: its logarithm is finite
  const double angle = static_cast<double>(second >> 11) * 0x1p-53;
  return std::sqrt(-2 * std::log(radius)) * std::cos(2 * std::numbers::pi * angle);
}

Permutation::Permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch)
    : n_(n), seed_(seed), epoch_(epoch), half_bits_(n < 3 ? 1 : (std::bit_width(n - 1) + 1) / 2) {}

std::uint64_t Permutation::operator()(std::uint64_t index) const {
  assert(index < n_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {  // the network permutes [0, 4^half_bits); walk until the image lies in [0, n), fewer than four steps on average
    std::uint64_t left = index >> half_bits_, right = index & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t next = left ^ (Random(seed_, Stream::shuffle, epoch_ * 4 + round).bits(right) & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= n_);
  return index;
}

}  // namespace graft
