// gated_activation.h on a GPU. activation: 0 silu, 1 gelu_tanh. The backward overwrites gate with de, up with dg and dh with h.
//
// No reductions: same bits always. Bytes: forward reads gate and up and writes h, backward reads dh, gate and up and writes all
// three, each once.
#pragma once

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct GatedForward {
  const void *gate, *up;
  void* h;
  std::int64_t gate_stride, up_stride, h_stride, rows, columns;
  int activation;
};

struct GatedBackward {
  void *dh, *gate, *up;
  std::int64_t dh_stride, gate_stride, up_stride, rows, columns;
  int activation;
};

extern "C" int graft_gated_forward(DType type, const GatedForward& arguments, Stream stream);
extern "C" int graft_gated_backward(DType type, const GatedBackward& arguments, Stream stream);

}  // namespace graft::cuda
