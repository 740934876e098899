// The entry points of libgraft_cuda.so and libgraft_simt.so, the same names in both, for the <op>_device.cpp of each op.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/adamw/adamw_cuda.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/copy_rows/copy_rows_cuda.h"
#include "kernels/cuda/runtime.h"
#include "kernels/gated_activation/gated_activation_cuda.h"
#include "kernels/gemm/gemm.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy_cuda.h"
#include "kernels/lora_linear/dropout_cuda.h"
#include "kernels/lora_linear/low_rank_cuda.h"
#include "kernels/nf4/nf4.h"
#include "kernels/rms_norm/rms_norm_cuda.h"
#include "kernels/rope/rope_cuda.h"

namespace graft::kernels {

struct Launchers {
  decltype(&cuda::graft_runtime_open) open;
  decltype(&cuda::graft_runtime_stream) stream;
  decltype(&cuda::graft_runtime_allocate) allocate;
  decltype(&cuda::graft_runtime_release) release;
  decltype(&cuda::graft_runtime_use) use;
  decltype(&cuda::graft_runtime_prefetch) prefetch;
  decltype(&cuda::graft_runtime_error_text) error_text;
  decltype(&cuda::graft_runtime_synchronize) synchronize;
  decltype(&cuda::graft_gemm) gemm;
  decltype(&cuda::graft_copy_rows) copy_rows;
  decltype(&cuda::graft_rms_norm_forward) rms_norm_forward;
  decltype(&cuda::graft_rms_norm_backward) rms_norm_backward;
  decltype(&cuda::graft_rope) rope;
  decltype(&cuda::graft_gated_forward) gated_forward;
  decltype(&cuda::graft_gated_backward) gated_backward;
  decltype(&cuda::graft_attention_forward) attention_forward;
  decltype(&cuda::graft_attention_backward) attention_backward;
  decltype(&cuda::graft_cross_entropy_rows) cross_entropy_rows;
  decltype(&cuda::graft_shrink) shrink;
  decltype(&cuda::graft_outer_sum) outer_sum;
  decltype(&cuda::graft_dropout) dropout;
  decltype(&cuda::graft_nf4_quantize) nf4_quantize;
  decltype(&cuda::graft_nf4_dequantize) nf4_dequantize;
  decltype(&cuda::graft_gradient_norm) gradient_norm;
  decltype(&cuda::graft_adamw_step) adamw_step;
};
const Launchers& launchers();  // of the device that was set
cuda::Stream stream();         // where everything is launched

inline cuda::DType device_type(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? cuda::DType::bf16 : cuda::DType::f32;
}

// After every launch. MachineError when a launcher's answer is not cudaSuccess.
void check_launch(const char* entry, int error);

}  // namespace graft::kernels
