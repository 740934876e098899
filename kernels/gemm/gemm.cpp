#include "kernels/gemm/gemm.h"

#include <ATen/ATen.h>

namespace graft::cuda {
namespace {

at::ScalarType scalar(DType type) { return type == DType::bf16 ? at::kBFloat16 : at::kFloat; }

// Transposed: LibTorch's matrices are row-major.
at::Tensor matrix(const void* data, std::int64_t ld, std::int64_t rows, std::int64_t columns, DType type) {
  return at::from_blob(const_cast<void*>(data), {columns, rows}, {ld, 1}, at::TensorOptions(scalar(type)));
}

// op(X)^T of shape (columns, rows), for op(X) (rows, columns)
at::Tensor operand(const GemmOperand& x, std::int64_t rows, std::int64_t columns, DType type) {
  return x.transposed ? matrix(x.data, x.ld, columns, rows, type).t() : matrix(x.data, x.ld, rows, columns, type);
}

}  // namespace

int gemm_cpu(const Gemm& g) {
  if (gemm_fault(g) != nullptr) return 1;
  if (g.m == 0 || g.n == 0) return 0;
  at::Tensor c = matrix(g.c, g.ldc, g.m, g.n, g.c_type);
  if (g.k == 0) {
    if (g.beta == 0)
      c.zero_();
    else
      c.mul_(g.beta);
    return 0;
  }
  at::Tensor a = operand(g.a, g.m, g.k, g.type), b = operand(g.b, g.k, g.n, g.type);
  if (g.c_type != g.type) a = a.to(at::kFloat), b = b.to(at::kFloat);
  at::addmm_out(c, c, b, a, g.beta, g.alpha);  // C^T = op(B)^T op(A)^T
  return 0;
}

}  // namespace graft::cuda
