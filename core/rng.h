// Counter-based randomness: a value is a pure function of (seed, stream, counter), so there is no generator state to save
// and a resumed run draws what the uninterrupted one would have drawn.
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10).
#pragma once

#include <array>
#include <cstdint>

namespace graft {

// Streams keep uses of one seed apart.
enum class Stream : std::uint32_t { init = 1, shuffle = 2, dropout = 3, sample = 4, split = 5 };

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t counter_high, std::uint64_t counter_low);

class Random {
 public:
  Random(std::uint64_t seed, Stream stream, std::uint64_t substream = 0);
  std::uint64_t bits(std::uint64_t counter) const;  // uniform 64 bits
  double uniform(std::uint64_t counter) const;      // [0, 1), 53 bits
  double normal(std::uint64_t counter) const;       // mean 0, variance 1 (Box-Muller)

 private:
  std::uint64_t seed_, high_;
};

// Bijection of [0, n): a four-round keyed Feistel network with cycle walking. O(1) memory, any element at any time.
class Permutation {
 public:
  Permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch);
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t n_, seed_, epoch_;
  int half_bits_;
};

}  // namespace graft
