#include "kernels/gemm/gemm_device.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/check.h"
#include "kernels/launchers.h"

namespace graft::kernels::on_device {
namespace {

constexpr std::int64_t kWorkspaceBytes = 32 << 20;

// A row more than there is may be any distance away; rows that overlap, as an expanded tensor's do, are not a matrix to cuBLASLt.
std::int64_t row_stride(const at::Tensor& x) {
  if (x.size(0) > 1 && x.stride(0) < x.size(1))
    fail("gemm", cat("rows of ", shape_text(x.sizes()), " are ", x.stride(0), " apart and overlap"));
  return std::max(x.stride(0), x.size(1));
}

void launch(const cuda::Gemm& gemm) {
  static const at::Tensor& workspace = *new at::Tensor(at::empty({kWorkspaceBytes}, at::kByte));
  check_launch("graft_gemm", launchers().gemm(gemm, workspace.mutable_data_ptr(), kWorkspaceBytes, stream()));
}

}  // namespace

void multiply(at::Tensor out, const at::Tensor& left, const at::Tensor& right, bool transposed, double alpha, double beta) {
  if (out.numel() == 0 || left.size(1) == 0) return;
  cuda::Gemm gemm = cuda::row_product(device_type(left), out.mutable_data_ptr(), row_stride(out), left.const_data_ptr(),
                                      row_stride(left), right.const_data_ptr(), row_stride(right), transposed, left.size(0),
                                      out.size(1), left.size(1), static_cast<float>(alpha), static_cast<float>(beta));
  gemm.c_type = device_type(out);
  launch(gemm);
}

void add_outer_product(at::Tensor out, const at::Tensor& narrow, const at::Tensor& wide, bool transposed) {
  if (narrow.numel() == 0 || wide.numel() == 0) return;
  const at::Tensor& rows = transposed ? wide : narrow;  // of out
  const at::Tensor& columns = transposed ? narrow : wide;
  launch({.a = {columns.const_data_ptr(), row_stride(columns), false},
          .b = {rows.const_data_ptr(), row_stride(rows), true},
          .c = out.mutable_data_ptr(),
          .ldc = row_stride(out),
          .m = columns.size(1),
          .n = rows.size(1),
          .k = rows.size(0),
          .alpha = 1,
          .beta = 1,
          .type = device_type(rows),
          .c_type = cuda::DType::f32});
}

}  // namespace graft::kernels::on_device
