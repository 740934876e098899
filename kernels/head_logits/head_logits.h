// The output head where its logits themselves are wanted: generation, and comparisons with other engines.
//
//   z = X W^T + scale (X A^T) B^T, in f32 also when X and W are bf16
//
// Rounding a logit of 20 to bf16 moves it by up to 1/16, a third of what bf16 costs a small model in all (KL; docs/formats.md).
// The loss rounds them, as transformers in bf16 does (linear_cross_entropy.h): there it averages out, and the product's speed
// counts.
//
// Shapes: X (T, H), W (V, H), both f32 or both bf16; the result (T, V) f32. Made for few rows: W is read once, widened row by
// row. With bf16 each value is one dot product in a fixed order: same bits whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/lora_linear/lora_linear.h"

namespace graft::kernels {

at::Tensor head_logits(const at::Tensor& x, const at::Tensor& weight, LowRank* adapter);  // adapter may be null

}  // namespace graft::kernels
