// The loss part of linear_cross_entropy.h on a GPU, formulas there: rows of logits z become their gradient in place.
//
// Rows whose label is negative have loss, logprob and gradient 0; a label outside of the vocabulary makes all three NaN.
// Everything between the logits and their gradient is f32; the label's probability minus one is taken from the sum over the
// others, so that it keeps its digits near one.
//
// One block per row, sums in a fixed order: same bits always. Bytes: the logits are read twice (the second time from L2: a row
// of 128 k bf16 logits is 256 KB) and written once; once read and not written without want_grad.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct CrossEntropyRows {
  void* logits;
  const std::int64_t* labels;
  const float* row_weight;  // (rows) or null
  float *loss, *logprob;    // (rows); logprob may be null
  std::int64_t stride, rows, columns;
  float softcap, z_loss, smoothing, grad_scale;
  int want_grad;
};

extern "C" int graft_cross_entropy_rows(DType type, const CrossEntropyRows& arguments, Stream stream);

}  // namespace graft::cuda
