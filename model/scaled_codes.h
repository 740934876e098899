// What codes on grids by groups of a row stand for:  value = (code - zero) scale,  in f32.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::model {

// codes: I8 or f32 (rows, columns). scale, zero: f32 (rows, groups), the groups dividing the columns; zero may be undefined.
// f32 (rows, columns).
at::Tensor scaled_codes(const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& zero);

}  // namespace graft::model
