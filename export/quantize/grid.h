// The grids of compressed-tensors' formats, one per group of a row, and rounding to the nearest of their points.
//
//   int b, symmetric   s = bf16(2 max|x| / (2^b - 1))      q = round(x / s)
//   int b              s = bf16((hi - lo) / (2^b - 1))     q = round(x / s + z), z = round(-2^(b-1) - lo / s)
//                      lo = min(x, 0), hi = max(x, 0)
//   fp8                s = bf16(max|x| / 448)              q = e4m3(x / s)
//
// (compressed-tensors quantization/utils/helpers.py, calculate_qparams.) Codes are clamped to the type's range, ties go to even;
// a group of zeros has the scale 2^-7. Scales are rounded before the codes are chosen, so that what is read back is nearest.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/compressed_tensors.h"

namespace graft::exports {

struct Grid {
  at::Tensor scale;  // f32 (rows, groups); of grid_of() values that bf16 holds
  at::Tensor zero;   // f32 (rows, groups), whole numbers; undefined when symmetric
};

// x: f32 (rows, columns), groups dividing the columns. DataError when a value is not finite.
Grid grid_of(const at::Tensor& x, const model::CompressedScheme& scheme);
// f32 of x's shape: whole numbers, or values that e4m3 holds. `grid` may be that of other values.
at::Tensor codes_on(const Grid& grid, const at::Tensor& x, const model::CompressedScheme& scheme);
// What is read back when each of them is rounded to the nearest point: f32 of x's shape, the bits of
// rounded_to_nearest().values().
at::Tensor nearest_values(const at::Tensor& x, const model::CompressedScheme& scheme);
// As it is written: packed where the format packs, scales in bf16.
model::CompressedWeight compressed(const Grid& grid, const at::Tensor& codes, const model::CompressedScheme& scheme);

}  // namespace graft::exports
