// Proof that a written model is the one that was meant: it is opened by the reader that training uses, and every tensor is
// compared with its source, element by element, against what rounding to the stored type may change.
//
//   F32: nothing.  BF16: 2^-8 |x|.  F16: 2^-11 |x| (2^-25 below the normal range).  round to nearest
//   Q8_0: per block of 32, d = max|x| / 127: half a step, plus the rounding of d to f16 times the largest quantum:
//         d/2 + 127 (2^-11 d + 2^-25)
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "export/merge.h"
#include "model/weights.h"

namespace graft::exports {

// The largest |stored - x| per element, f32, of x's shape. UnsupportedError for a type not listed above.
at::Tensor rounding_bound(const std::string& stored_as, const at::Tensor& x);

// Compares names, shapes, the numbers of the spec and every value. Returns the largest |written - source| / max |source| over
// tensors. FormatError naming the tensor and the two values that disagree.
double verify_model(const MergedModel& source, const model::WeightSource& written);

}  // namespace graft::exports
