// D of lora_linear.h on a GPU: y = D(x), or y += D(x) with add. The mask is that of the CPU: element i of a row of K is dropped
// when word i % 4 of philox(seed, Stream::dropout << 32, row ceil(K / 4) + i / 4) is below threshold = p 2^32; the others are
// multiplied by keep_scale = 1 / (1 - p). Nothing is stored: the backward calls it again with the same seed. y may be x.
//
// No reductions: same bits always. Bytes: x is read and y written (and read, with add) once.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct Dropout {
  const void* x;
  void* y;
  std::int64_t x_stride, y_stride, rows, columns;
  std::uint64_t seed;
  double probability;  // in [0, 1)
  int add;
};

extern "C" int graft_dropout(DType type, const Dropout& arguments, Stream stream);

}  // namespace graft::cuda
