// Rows of a matrix elsewhere: embeddings of tokens, tokens with a label and their gradients back in place, factors of adapters in
// the type of the products.
//
//   y_i = scale x_j, j = index_i, rounded once; zeros where j is not a row of x.     Without an index j = i.
//
// Shapes: x (R, C), y (n, C), index (n) int64. y has the type of x, f32 or bf16, or is bf16 for x in f32. Rows are dense with any
// stride; those of x may be one row expanded (stride 0). Copies with scale 1 keep their bits.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels {

void copy_rows(at::Tensor y, const at::Tensor& x, const at::Tensor& index = {}, double scale = 1);
void zero(at::Tensor y);                                                               // f32 or bf16, dense
at::Tensor take_rows(const at::Tensor& x, const at::Tensor& index, double scale = 1);  // a new y
at::Tensor to_type(const at::Tensor& x, at::ScalarType type);                          // x itself where it is of the type

}  // namespace graft::kernels
