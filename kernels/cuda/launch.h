// What the launchers of all CUDA kernels share. A launcher takes the arguments of its kernels in one struct of raw pointers,
// strides in elements as 64-bit numbers; the pointers are device memory, aligned to their element (16 bytes are faster). It
// returns cudaSuccess (0) or the error of the launch, does not wait, and launches nothing when there is nothing to do.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace graft::cuda {

using Stream = CUstream_st*;  // cudaStream_t

enum class DType : int { f32, bf16 };

}  // namespace graft::cuda
