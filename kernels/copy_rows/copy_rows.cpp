#include "kernels/copy_rows/copy_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/copy_rows/copy_rows_device.h"
#include "kernels/device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

constexpr const char* kOp = "copy_rows";

template <class Out, class In>
GRAFT_SIMD void copy_row(Out* y, const In* x, std::int64_t n, float scale) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) store(y[i], load(x[i]) * scale);
}

template <class Out, class In>
void copy_all(at::Tensor& y, const at::Tensor& x, const std::int64_t* index, float scale) {
  const std::int64_t columns = y.size(1), rows = x.size(0);
  const In* in = x.const_data_ptr<In>();
  Out* out = y.mutable_data_ptr<Out>();
  const std::int64_t grain = std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(columns, 1));
  at::parallel_for(0, y.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t from = index != nullptr ? index[i] : i;
      Out* row = out + i * y.stride(0);
      if (from < 0 || from >= rows)
        std::fill_n(row, columns, Out{});
      else if (std::is_same_v<In, Out> && scale == 1)
        std::memcpy(row, in + from * x.stride(0), static_cast<std::size_t>(columns) * sizeof(Out));
      else
        copy_row(row, in + from * x.stride(0), columns, scale);
    }
  });
}

}  // namespace

void copy_rows(at::Tensor y, const at::Tensor& x, const at::Tensor& index, double scale) {
  const c10::InferenceMode no_autograd;
  check_dim(kOp, "x", x, 2);
  check_float_or_bf16(kOp, "x", x);
  check_rows_dense(kOp, "x", x);
  const std::int64_t rows = index.defined() ? index.size(0) : x.size(0);
  check_shape(kOp, "y", y, {rows, x.size(1)}, "as many rows as index, or x, and the columns of x");
  check_float_or_bf16(kOp, "y", y);
  check_rows_dense(kOp, "y", y);
  if (x.scalar_type() == at::kBFloat16) check_type(kOp, "y", y, at::kBFloat16, "the type of x");
  if (index.defined()) {
    check_dim(kOp, "index", index, 1);
    check_type(kOp, "index", index, at::kLong, "numbers of rows");
    check_rows_dense(kOp, "index", index);
  }
  const std::int64_t* rows_of_x = index.defined() ? index.const_data_ptr<std::int64_t>() : nullptr;
  const auto factor = static_cast<float>(scale);
  if (device() != Device::cpu) return on_device::copy_rows(y, x, rows_of_x, factor);
  if (x.scalar_type() == at::kBFloat16)
    copy_all<c10::BFloat16, c10::BFloat16>(y, x, rows_of_x, factor);
  else if (y.scalar_type() == at::kBFloat16)
    copy_all<c10::BFloat16, float>(y, x, rows_of_x, factor);
  else
    copy_all<float, float>(y, x, rows_of_x, factor);
}

void zero(at::Tensor y) {
  const c10::InferenceMode no_autograd;
  check_float_or_bf16(kOp, "y", y);
  if (!y.is_contiguous()) fail(kOp, "y must be contiguous to be zeroed");
  if (device() == Device::cpu)
    y.zero_();
  else  // x without rows; the host would fetch the pages that it clears
    on_device::copy_rows(y.view({1, -1}), y.view({1, -1}).narrow(0, 0, 0), nullptr, 1);
}

at::Tensor take_rows(const at::Tensor& x, const at::Tensor& index, double scale) {
  const c10::InferenceMode no_autograd;
  at::Tensor y = at::empty({index.size(0), x.size(1)}, x.options());
  copy_rows(y, x, index, scale);
  return y;
}

at::Tensor to_type(const at::Tensor& x, at::ScalarType type) {
  if (x.scalar_type() == type) return x;
  const c10::InferenceMode no_autograd;
  at::Tensor y = at::empty(x.sizes(), x.options().dtype(type));
  copy_rows(y, x);
  return y;
}

}  // namespace graft::kernels
