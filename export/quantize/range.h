// How far the values of a weight reach. Sums and searches by vectors; the bits are those of the plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace graft::exports {

// max |x|; infinity when a value is infinite or NaN.
float largest_magnitude(const float* x, std::int64_t n);

struct Range {
  float low, high;
};

// The smallest and the largest of `size` values that are no NaN, where both are zeros as std::minmax_element finds them.
template <int size>
[[gnu::always_inline]] inline Range range_of(const float* x) {
  float low = x[0], high = x[0];
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int j = 0; j < size; ++j) {
    low = x[j] < low ? x[j] : low;
    high = x[j] > high ? x[j] : high;
  }
  if (low != 0 && high != 0) return {low, high};
  const auto [first, last] = std::minmax_element(x, x + size);  // zeros have signs
  return {*first, *last};
}

// The value that is furthest from zero, the first of two; zero when all are.
template <int size>
[[gnu::always_inline]] inline float signed_largest(const float* x) {
  const auto [low, high] = range_of<size>(x);
  if (high > -low) return high;
  if (-low > high) return low;
  float largest = 0;
  for (int j = 0; j < size; ++j) largest = std::fabs(x[j]) > std::fabs(largest) ? x[j] : largest;
  return largest;
}

}  // namespace graft::exports
