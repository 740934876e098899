// The entry points of libgraft_simt.so, and one day of libgraft_cuda.so, for the <op>_device.cpp of each op.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <initializer_list>
#include <vector>

#include "kernels/adamw/adamw_cuda.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/gated_activation/gated_activation_cuda.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy_cuda.h"
#include "kernels/lora_linear/dropout_cuda.h"
#include "kernels/lora_linear/low_rank_cuda.h"
#include "kernels/nf4/nf4.h"
#include "kernels/rms_norm/rms_norm_cuda.h"
#include "kernels/rope/rope_cuda.h"
#include "kernels/simt/lend.h"

namespace graft::kernels {

struct Launchers {
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
  decltype(&cuda::graft_nf4_dequantize) nf4_dequantize;
  decltype(&cuda::graft_gradient_norm) gradient_norm;
  decltype(&cuda::graft_adamw_step) adamw_step;
  decltype(&graft_simt_lend) lend;
  decltype(&graft_simt_take_back) take_back;
};
const Launchers& launchers();  // of the device that was set

// Lets the kernels touch the storage of these tensors while it lives; the simulator faults on everything else.
class Lent {
 public:
  Lent(std::initializer_list<at::Tensor> tensors);  // undefined ones are skipped
  ~Lent();
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  // Memory that belongs to no tensor; `granule` is the size of an element.
  void add(const void* memory, std::size_t bytes, std::size_t granule);

 private:
  std::vector<const void*> memory_;
};

inline cuda::DType device_type(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? cuda::DType::bf16 : cuda::DType::f32;
}

// MachineError when a launcher's answer is not cudaSuccess.
void check_launch(const char* entry, int error);

}  // namespace graft::kernels
