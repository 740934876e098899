// Proof that a written model is the one that was meant: it is opened by the reader that training uses, and every tensor is
// compared with its source, element by element, against what rounding to the stored type may change.
//
//   F32: nothing.  BF16: 2^-8 |x|.  F16: 2^-11 |x| (2^-25 below the normal range).  round to nearest
//   Q8_0: per block of 32, d = max|x| / 127: half a step, plus the rounding of d to f16 times the largest code:
//         d/2 + 127 (2^-11 d + 2^-25)
//   Q4_0, Q5_0: d = max|x| / n with n = 8, 16; codes -n .. n-1 times d of the largest value's sign, so that what lies beyond the
//         last code on the other side is clipped:  max(d/2, x/d - (n-1)) + n (2^-11 |d| + 2^-25)
//   Q4_1, Q5_1: d = (max - min) / n with n = 15, 31:  d/2 + n (2^-11 d + 2^-25) + 2^-11 |min| + 2^-25
//   Q4_K, Q5_K, Q6_K: the scales come of a search, so that no bound of a single value is tight: the file must hold exactly what
//         our quantizer makes of the source.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "export/merge.h"
#include "model/weights.h"

namespace graft::exports {

// The largest |stored - x| per element, f32, of x's shape. UnsupportedError for a type without one above.
at::Tensor rounding_bound(const std::string& stored_as, const at::Tensor& x);

// What a tensor of the file must read back as, exactly; undefined: the source, within rounding_bound.
using ExpectedValues =
    std::function<at::Tensor(const model::TensorSpec& tensor, const std::string& stored_as, const at::Tensor& source)>;

// Compares names, shapes, the numbers of the spec and every value. Returns the largest |written - source| / max |source| over
// tensors. FormatError naming the tensor and the two values that disagree.
double verify_model(const MergedModel& source, const model::WeightSource& written, const ExpectedValues& expected = {});

}  // namespace graft::exports
