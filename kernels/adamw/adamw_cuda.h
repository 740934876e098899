// adamw.h on a GPU: one step is two launches on one stream, and the host waits for neither.
//
//   graft_gradient_norm   *norm = |g|, f64, in two stages: blocks of a fixed share, then their sums in order
//   graft_adamw_step      reads *norm; a norm that is not finite leaves everything as it is
//
// Same bits for the same P on every GPU. Bytes: the norm reads g once; the step reads p, g, m, v and writes p, m, v once, 28 a
// parameter. `partial` is scratch of kNormBlocks f64.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

constexpr int kNormBlocks = 256;

struct GradientNorm {
  const float* gradients;
  double *partial, *norm;
  std::int64_t count;
};

struct AdamWStep {
  float *parameters, *m, *v;
  const float* gradients;
  const double* norm;
  std::int64_t count, t;                                 // t: this step's number, from 1
  double lr, beta1, beta2, eps, weight_decay, max_norm;  // max_norm 0: no clipping
};

extern "C" int graft_gradient_norm(const GradientNorm& arguments, Stream stream);
extern "C" int graft_adamw_step(const AdamWStep& arguments, Stream stream);

}  // namespace graft::cuda
