// The narrow products of lora_linear.h on tensor cores (bf16, f32 accumulation; sm_80 on):
//
//   graft_shrink      S = scale X A^T                 X (M, K), A (r, K), S (M, r);   dS = scale dY B with A = B^T (r, N)
//   graft_outer_sum   out += narrow^T wide            narrow (M, r), wide (M, C), out (r, C) f32:   dA = dS^T X
//                     or its transpose into (C, r)    dB = dY^T S
//
// r is at most 64; rows are dense with any stride. outer_sum cuts M into `splits` shares, sums each in f32 into its part of
// `partial` (splits, r, C), and adds the parts in order: same bits for the same shape. X is read once, as are narrow and wide for
// each 128 columns of wide.
#pragma once

#include <algorithm>

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct Shrink {
  const void *x, *a;
  void* s;
  std::int64_t x_stride, a_stride, s_stride, rows, columns, rank;
  float scale;
};

struct OuterSum {
  const void *narrow, *wide;
  float *partial, *out;
  std::int64_t narrow_stride, wide_stride, out_stride, rows, rank, columns, splits;
  int transposed;
};

// Shares of at least 256 rows, few enough that adding them up costs little.
inline std::int64_t outer_sum_splits(std::int64_t rows) { return std::clamp<std::int64_t>(rows / 256, 1, 32); }

extern "C" int graft_shrink(const Shrink& arguments, Stream stream);
extern "C" int graft_outer_sum(const OuterSum& arguments, Stream stream);

}  // namespace graft::cuda
