// Proof that a written model is the one that was meant: it is opened by the reader that training uses, and every tensor is
// compared with its source, element by element, against what rounding to the stored type may change (export/compare.h). Where
// scales come of a search (Q4_K, Q5_K, Q6_K) or of a format's own grid, no bound of a single value is tight: the file must hold
// exactly what the quantizer makes of the source a second time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "export/merge.h"
#include "model/weights.h"

namespace graft::exports {

// The largest |stored - x| per element, f32, of x's shape. UnsupportedError for a type without one.
at::Tensor rounding_bound(const std::string& stored_as, const at::Tensor& x);

// What a tensor of the file must read back as, exactly; no `values`: the source, within rounding_bound, or what a search makes of
// it.
struct Expectation {
  std::function<at::Tensor(const at::Tensor& source)> values;
  bool by_rows = true;  // asked for any rows from a multiple of kRowStep on, on several threads at once; else for the tensor
};
// Asked once for each tensor that is not stored as F32, BF16 or F16.
using ExpectedValues = std::function<Expectation(const model::TensorSpec& tensor, const std::string& stored_as)>;

// Compares names, shapes, the numbers of the spec and every value. Returns the largest |written - source| / max |source| over
// tensors. FormatError naming the tensor and the two values that disagree.
double verify_model(const MergedModel& source, const model::WeightSource& written, const ExpectedValues& expected = {});

}  // namespace graft::exports
