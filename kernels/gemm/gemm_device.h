// gemm.h for the tensors of ops that run on a device (kernels/device.h). Private to kernels/.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::kernels::on_device {

// out (M, N) = beta out + alpha left (M, K) right (K, N), or right^T for right (N, K) with `transposed`. left and right both f32
// or both bf16, out of their type or f32; rows dense with any stride. Nothing happens where a size is 0.
void multiply(at::Tensor out, const at::Tensor& left, const at::Tensor& right, bool transposed, double alpha = 1,
              double beta = 0);

// out (r, C) f32 += narrow^T wide for narrow (M, r) and wide (M, C), or its transpose (C, r).
void add_outer_product(at::Tensor out, const at::Tensor& narrow, const at::Tensor& wide, bool transposed);

}  // namespace graft::kernels::on_device
