// A dense product with the arguments of a BLAS library, so that what a library computes stands behind one interface: cuBLASLt's
// in libgraft_cuda.so (gemm_cublaslt.cpp), plain loops in libgraft_simt.so (gemm.cpp). on_device::multiply is how ops call it.
//
//   C = alpha op(A) op(B) + beta C        op(X) = X, or X^T where transposed
//
// Column-major, as cuBLAS: element (i, j) of a matrix is at data + i + j ld. Shapes: op(A) (m, k), op(B) (k, n), C (m, n); m, n
// and k may be 0. A and B are both f32 or both bf16; C is of their type, or f32 for gradients that are accumulated. Sums are f32
// and rounded once. With beta 0 what was in C is not read. A row-major (rows, columns) matrix is the column-major (columns, rows)
// one: row_product says how Y = X W^T and dX = dY W are written.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct GemmOperand {
  const void* data;
  std::int64_t ld;
  bool transposed;
};

struct Gemm {
  GemmOperand a, b;
  void* c;
  std::int64_t ldc, m, n, k;
  float alpha, beta;
  DType type, c_type;
};

// Row-major out (M, N) = beta out + alpha left (M, K) right, or right^T with `transposed`: then right is (N, K), else (K, N).
// Strides are those of rows.
inline Gemm row_product(DType type, void* out, std::int64_t out_stride, const void* left, std::int64_t left_stride,
                        const void* right, std::int64_t right_stride, bool transposed, std::int64_t rows, std::int64_t columns,
                        std::int64_t depth, float alpha, float beta) {
  return {{right, right_stride, transposed},
          {left, left_stride, false},
          out,
          out_stride,
          columns,
          rows,
          depth,
          alpha,
          beta,
          type,
          type};
}

// nullptr, or what no library takes: a leading dimension shorter than a column, a size below 0 or beyond 32 bits, an address that
// is not a multiple of its element, C in bf16 for f32 operands.
const char* gemm_fault(const Gemm& gemm);

// Plain loops, at once. 0, or 1 (cudaErrorInvalidValue) where gemm_fault is not null.
int gemm_cpu(const Gemm& gemm);

inline constexpr int kGemmCublasError = 1000;  // and a cublasStatus_t

// On the stream, on device memory; workspace of `workspace_bytes` (32 MiB is what cuBLASLt's heuristic is asked for at most). 0,
// 1 as above or where k is 0, or kGemmCublasError + cublasStatus_t.
extern "C" int graft_gemm(const Gemm& gemm, void* workspace, std::size_t workspace_bytes, Stream stream);

}  // namespace graft::cuda
