// copy_rows.h on a GPU, formula there. x and y of one type, or x f32 and y bf16; any other pair is cudaErrorInvalidValue (1).
//
// No reductions: same bits always. Bytes: each row of y is written once, each row of x that index names read once for each time
// it is named.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct CopyRows {
  const void* x;
  const std::int64_t* index;  // (rows) or null
  void* y;
  std::int64_t x_stride, y_stride, x_rows, rows, columns;
  float scale;
};

extern "C" int graft_copy_rows(DType x_type, DType y_type, const CopyRows& arguments, Stream stream);

}  // namespace graft::cuda
