// rope.h on a GPU, in place. direction is 1 (forward) or -1 (backward). x (tokens, heads, 2 half or more) has any strides of
// tokens and heads; cos, sin (tokens, half) are dense.
//
// No reductions: same bits always. Bytes: the turned part of x once each way; cos and sin once per head, from cache after the
// first.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct Rope {
  void* x;
  const float *cos, *sin;
  std::int64_t token_stride, head_stride, tokens, heads, half;
  float direction;
};

extern "C" int graft_rope(DType type, const Rope& arguments, Stream stream);

}  // namespace graft::cuda
