#include "kernels/rope/rope.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/rope/rope_device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

template <class T>
GRAFT_SIMD void rotate(T* x, const float* cos, const float* sin, std::int64_t half, float direction) {
  T* y = x + half;
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = load(x[i]), b = load(y[i]), s = direction * sin[i];
    store(x[i], a * cos[i] - b * s);
    store(y[i], b * cos[i] + a * s);
  }
}

void rope(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float direction) {
  const c10::InferenceMode no_autograd;
  check_dim("rope", "x", x, 3);
  check_float_or_bf16("rope", "x", x);
  check_rows_dense("rope", "x", x);
  check_dim("rope", "cos", cos, 2);
  const std::int64_t tokens = x.size(0), heads = x.size(1), half = cos.size(1);
  check_shape("rope", "cos", cos, {tokens, half}, cat("the first size of x ", shape_text(x.sizes())));
  check_shape("rope", "sin", sin, cos.sizes(), "as cos");
  if (2 * half > x.size(2))
    fail("rope", cat("cos has ", half, " columns but x ", shape_text(x.sizes()), " has room for ", x.size(2) / 2));
  for (const auto* table : {&cos, &sin}) {
    check_type("rope", "cos and sin", *table, at::kFloat, "whatever the type of x");
    if (!table->is_contiguous()) fail("rope", "cos and sin must be contiguous");
  }
  if (device() != Device::cpu) return on_device::rope(x, cos, sin, direction);
  const float *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  by_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    T* data = x.mutable_data_ptr<T>();
    at::parallel_for(0, tokens, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        for (std::int64_t h = 0; h < heads; ++h) {
          rotate(data + t * x.stride(0) + h * x.stride(1), c + t * half, s + t * half, half, direction);
        }
      }
    });
  });
}

}  // namespace

void rope_forward(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin) { rope(x, cos, sin, 1); }
void rope_backward(at::Tensor dx, const at::Tensor& cos, const at::Tensor& sin) { rope(dx, cos, sin, -1); }

}  // namespace graft::kernels
