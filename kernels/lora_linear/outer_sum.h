// Gradient of a low-rank factor: the sum of outer products of a narrow and a wide matrix. Private to this folder.
//
//   out = narrow^T wide
//
// Shapes: narrow (M, r), wide (M, C), both f32 or both bf16, dense rows of any stride; out (r, C) f32. A library's product would
// convert both to f32 in memory first and is slow when one side is so narrow. Products and sums are f32: within blocks of 256
// rows, then over the blocks in order; every element is summed by one thread: same bits for any number of threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

at::Tensor outer_sum(const at::Tensor& narrow, const at::Tensor& wide);

}  // namespace graft::kernels
