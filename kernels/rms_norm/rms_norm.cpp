#include "kernels/rms_norm/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/rms_norm/rms_norm_device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

template <class T>
GRAFT_SIMD void add_row(const T* residual, T* x, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) store(x[i], load(x[i]) + load(residual[i]));
}

template <class T>
GRAFT_SIMD float forward_row(const T* x, const T* w, T* y, std::int64_t n, float eps, float offset, bool gain_in_f32) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < n; ++i) squares += load(x[i]) * load(x[i]);
  const float r = 1.f / std::sqrt(squares / static_cast<float>(n) + eps);
  if (gain_in_f32) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) store(y[i], load(x[i]) * r * (offset + load(w[i])));
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) store(y[i], round_to<T>(load(x[i]) * r) * (offset + load(w[i])));
  }
  return r;
}

template <class T>
GRAFT_SIMD void backward_row(const T* dy, const T* x, const T* w, float r, float offset, T* dx, std::int64_t n, bool add) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t i = 0; i < n; ++i) dot += load(dy[i]) * (offset + load(w[i])) * load(x[i]);
  const float pull = dot / static_cast<float>(n) * r * r;
  if (add) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      store(dx[i], load(dx[i]) + r * (load(dy[i]) * (offset + load(w[i])) - load(x[i]) * pull));
    }
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) store(dx[i], r * (load(dy[i]) * (offset + load(w[i])) - load(x[i]) * pull));
  }
}

void check_arguments(const at::Tensor& x, const at::Tensor& weight) {
  constexpr const char* op = "rms_norm";
  check_dim(op, "x", x, 2);
  check_float_or_bf16(op, "x", x);
  check_rows_dense(op, "x", x);
  check_shape(op, "weight", weight, {x.size(1)}, cat("the last size of x ", shape_text(x.sizes())));
  check_type(op, "weight", weight, x.scalar_type(), "the type of x");
  check_rows_dense(op, "weight", weight);
}

std::int64_t grain(std::int64_t columns) { return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(columns, 1)); }

}  // namespace

at::Tensor rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, const RmsNormOptions& options, at::Tensor* rstd,
                            const at::Tensor& residual) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, weight);
  if (residual.defined()) {
    check_shape("rms_norm", "residual", residual, x.sizes(), cat("as x ", shape_text(x.sizes())));
    check_type("rms_norm", "residual", residual, x.scalar_type(), "the type of x");
    check_rows_dense("rms_norm", "residual", residual);
  }
  const std::int64_t rows = x.size(0), columns = x.size(1);
  at::Tensor y = at::empty({rows, columns}, x.options());
  at::Tensor r = at::empty({rows}, x.options().dtype(at::kFloat));
  if (rstd != nullptr) *rstd = r;
  if (device() != Device::cpu) return on_device::rms_norm_forward(x, weight, options, y, r, residual), y;
  by_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const T* w = weight.const_data_ptr<T>();
    const T* added = residual.defined() ? residual.const_data_ptr<T>() : nullptr;
    T* const sum = added != nullptr ? x.mutable_data_ptr<T>() : nullptr;
    const T* const in = x.const_data_ptr<T>();
    T* out = y.mutable_data_ptr<T>();
    float* r_out = r.mutable_data_ptr<float>();
    at::parallel_for(0, rows, grain(columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (added != nullptr) add_row(added + i * residual.stride(0), sum + i * x.stride(0), columns);
        r_out[i] = forward_row(in + i * x.stride(0), w, out + i * columns, columns, static_cast<float>(options.eps),
                               static_cast<float>(options.gain_offset), options.gain_in_f32);
      }
    });
  });
  return y;
}

at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                             const RmsNormOptions& options, at::Tensor dx) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, weight);
  const std::int64_t rows = x.size(0), columns = x.size(1);
  const std::string as_x = cat("as x ", shape_text(x.sizes()));
  check_shape("rms_norm", "dy", dy, x.sizes(), as_x);
  check_type("rms_norm", "dy", dy, x.scalar_type(), "the type of x");
  check_rows_dense("rms_norm", "dy", dy);
  check_shape("rms_norm", "rstd", rstd, {rows}, cat("the first size of x ", shape_text(x.sizes())));
  const bool add = dx.defined();
  if (!add) dx = at::empty({rows, columns}, x.options());
  check_shape("rms_norm", "dx", dx, x.sizes(), as_x);
  check_type("rms_norm", "dx", dx, x.scalar_type(), "the type of x");
  check_rows_dense("rms_norm", "dx", dx);
  if (device() != Device::cpu) return on_device::rms_norm_backward(dy, x, weight, rstd, options, dx, add), dx;
  by_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const T *grad = dy.const_data_ptr<T>(), *in = x.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    const float* r = rstd.const_data_ptr<float>();
    T* out = dx.mutable_data_ptr<T>();
    at::parallel_for(0, rows, grain(columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        backward_row(grad + i * dy.stride(0), in + i * x.stride(0), w, r[i], static_cast<float>(options.gain_offset),
                     out + i * dx.stride(0), columns, add);
      }
    });
  });
  return dx;
}

}  // namespace graft::kernels
