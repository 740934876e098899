// rms_norm.h on a GPU. Forward: h = x + residual when residual is given, rounded once and written to `sum` (which may be x or
// residual), then y = rms_norm(h). Backward: x is what was normalised (h); dx = gradient, or dx += gradient with add_to_dx.
//
// Each row is reduced in a fixed order. Bytes: forward reads x (and residual) and writes y (and sum), backward reads dy, x (and
// dx) and writes dx, each once for rows of up to 8192 elements; the gain comes from cache.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct RmsNormForward {
  const void *x, *residual, *weight;  // residual may be null, as may be sum then
  void *sum, *y;
  float* rstd;  // (rows) or null
  std::int64_t x_stride, residual_stride, sum_stride, y_stride, rows, columns;
  float eps, gain_offset;
  int gain_in_f32;
};

struct RmsNormBackward {
  const void *dy, *x, *weight;
  const float* rstd;
  void* dx;
  std::int64_t dy_stride, x_stride, dx_stride, rows, columns;
  float gain_offset;
  int add_to_dx;
};

extern "C" int graft_rms_norm_forward(DType type, const RmsNormForward& arguments, Stream stream);
extern "C" int graft_rms_norm_backward(DType type, const RmsNormBackward& arguments, Stream stream);

}  // namespace graft::cuda
