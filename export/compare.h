// What rounding to a stored type may change of a value, and the comparison of what was read back with its source.
//
//   F32: nothing.  BF16: 2^-8 |x|.  F16: 2^-11 |x| (2^-25 below the normal range).  round to nearest
//   Q8_0: per block of 32, d = max|x| / 127: half a step, plus the rounding of d to f16 times the largest code:
//         d/2 + 127 (2^-11 d + 2^-25)
//   Q4_0, Q5_0: d = max|x| / n with n = 8, 16; codes -n .. n-1 times d of the largest value's sign, so that what lies beyond the
//         last code on the other side is clipped:  max(d/2, x/d - (n-1)) + n (2^-11 |d| + 2^-25)
//   Q4_1, Q5_1: d = (max - min) / n with n = 15, 31:  d/2 + n (2^-11 d + 2^-25) + 2^-11 |min| + 2^-25
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <string>

namespace graft::exports {

// The largest |stored - x| of n elements, a multiple of 32 for a type with blocks. UnsupportedError for a type not listed above.
void rounding_bounds(const std::string& stored_as, const float* x, std::int64_t n, float* out);

struct Comparison {
  float difference = 0, largest = 0;  // max |written - source|, max |source|
  std::int64_t outside = -1;          // the first element that is further off than its bound, or not finite; -1: none

  double error() const { return largest > 0 ? static_cast<double>(difference) / static_cast<double>(largest) : 0; }
  void add(const Comparison& other) {  // of other rows
    difference = std::max(difference, other.difference);
    largest = std::max(largest, other.largest);
  }
};
// stored_as empty: no value but one that is not finite is outside. On all threads; a piece that may start and end in the middle
// of a tensor.
Comparison compare_values(const std::string& stored_as, const float* source, const float* written, std::int64_t n);

// Of rows of a tensor from `begin` on, both f32. FormatError naming the first element outside and both values.
Comparison compare_rows(const std::string& tensor, const std::string& stored_as, std::int64_t begin, const at::Tensor& source,
                        const at::Tensor& written);

}  // namespace graft::exports
