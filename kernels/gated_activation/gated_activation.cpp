#include "kernels/gated_activation/gated_activation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/gated_activation/gated_activation_device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

struct Value {
  float act, slope;
};

template <Activation activation>
inline Value evaluate(float e) {
  if constexpr (activation == Activation::silu) {
    const float s = 1.f / (1.f + fast_exp(-e));
    return {e * s, s * (1.f + e * (1.f - s))};
  } else {
    constexpr float k = 0.7978845608f, c = 0.044715f;
    const float t = fast_tanh(k * (e + c * e * e * e));
    return {0.5f * e * (1.f + t), 0.5f * (1.f + t) + 0.5f * e * (1.f - t * t) * k * (1.f + 3.f * c * e * e)};
  }
}

template <Activation activation, class T>
GRAFT_SIMD void forward_row(const T* e, const T* g, T* h, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) store(h[i], evaluate<activation>(load(e[i])).act * load(g[i]));
}

template <Activation activation, class T>
GRAFT_SIMD void backward_row(T* dh, T* e, T* g, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Value value = evaluate<activation>(load(e[i]));
    const float d = load(dh[i]), up = load(g[i]);
    store(e[i], d * up * value.slope);
    store(g[i], d * value.act);
    store(dh[i], value.act * up);
  }
}

void check_arguments(const at::Tensor& gate, const at::Tensor& up) {
  constexpr const char* op = "gated_activation";
  check_dim(op, "gate", gate, 2);
  check_float_or_bf16(op, "gate", gate);
  check_rows_dense(op, "gate", gate);
  check_shape(op, "up", up, gate.sizes(), "as gate");
  check_type(op, "up", up, gate.scalar_type(), "the type of gate");
  check_rows_dense(op, "up", up);
}

std::int64_t grain(std::int64_t columns) { return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(columns, 1)); }

template <Activation activation, class T>
void forward(const at::Tensor& gate, const at::Tensor& up, at::Tensor& h) {
  const T *e = gate.const_data_ptr<T>(), *g = up.const_data_ptr<T>();
  T* out = h.mutable_data_ptr<T>();
  const std::int64_t n = gate.size(1);
  at::parallel_for(0, gate.size(0), grain(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      forward_row<activation>(e + i * gate.stride(0), g + i * up.stride(0), out + i * n, n);
    }
  });
}

template <Activation activation, class T>
void backward(at::Tensor& dh, at::Tensor& gate, at::Tensor& up) {
  T *d = dh.mutable_data_ptr<T>(), *e = gate.mutable_data_ptr<T>(), *g = up.mutable_data_ptr<T>();
  const std::int64_t n = gate.size(1);
  at::parallel_for(0, gate.size(0), grain(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      backward_row<activation>(d + i * dh.stride(0), e + i * gate.stride(0), g + i * up.stride(0), n);
    }
  });
}

}  // namespace

at::Tensor gated_activation_forward(const at::Tensor& gate, const at::Tensor& up, Activation activation) {
  const c10::InferenceMode no_autograd;
  check_arguments(gate, up);
  at::Tensor h = at::empty(gate.sizes(), gate.options());
  if (device() != Device::cpu) return on_device::gated_activation_forward(gate, up, activation, h), h;
  by_type(gate.scalar_type(), [&](auto type) {
    using T = decltype(type);
    if (activation == Activation::silu)
      forward<Activation::silu, T>(gate, up, h);
    else
      forward<Activation::gelu_tanh, T>(gate, up, h);
  });
  return h;
}

void gated_activation_backward(at::Tensor dh, at::Tensor gate, at::Tensor up, Activation activation) {
  const c10::InferenceMode no_autograd;
  check_arguments(gate, up);
  check_shape("gated_activation", "dh", dh, gate.sizes(), "as gate");
  check_type("gated_activation", "dh", dh, gate.scalar_type(), "the type of gate");
  check_rows_dense("gated_activation", "dh", dh);
  if (device() != Device::cpu) return on_device::gated_activation_backward(dh, gate, up, activation);
  by_type(gate.scalar_type(), [&](auto type) {
    using T = decltype(type);
    if (activation == Activation::silu)
      backward<Activation::silu, T>(dh, gate, up);
    else
      backward<Activation::gelu_tanh, T>(dh, gate, up);
  });
}

}  // namespace graft::kernels
