#include "kernels/head_logits/head_logits.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/gemm/gemm_device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

GRAFT_SIMD void widen(const c10::BFloat16* in, float* out, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = load(in[i]);
}

GRAFT_SIMD float dot(const float* a, const float* b, std::int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// ATen's product of bf16 operands would round the result.
at::Tensor widened_product(const at::Tensor& x, const at::Tensor& weight) {
  const std::int64_t tokens = x.size(0), columns = x.size(1), rows = weight.size(0);
  at::Tensor out = at::empty({tokens, rows}, x.options());
  const auto* w = weight.const_data_ptr<c10::BFloat16>();
  const float* in = x.const_data_ptr<float>();
  float* z = out.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 512, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(columns));
    for (std::int64_t v = begin; v < end; ++v) {
      widen(w + v * columns, row.data(), columns);
      for (std::int64_t t = 0; t < tokens; ++t) z[t * rows + v] = dot(in + t * columns, row.data(), columns);
    }
  });
  return out;
}

void check_arguments(const at::Tensor& x, const at::Tensor& weight, const LowRank* adapter) {
  constexpr const char* op = "head_logits";
  check_dim(op, "x", x, 2);
  check_float_or_bf16(op, "x", x);
  check_dim(op, "weight", weight, 2);
  const std::string of_x = cat("the last size of x ", shape_text(x.sizes()));
  check_shape(op, "weight", weight, {weight.size(0), x.size(1)}, of_x);
  check_type(op, "weight", weight, x.scalar_type(), "the type of x");
  if (adapter == nullptr) return;
  check_dim(op, "adapter A", adapter->a, 2);
  const std::int64_t rank = adapter->a.size(0);
  check_shape(op, "adapter A", adapter->a, {rank, x.size(1)}, of_x);
  check_shape(op, "adapter B", adapter->b, {weight.size(0), rank}, "outputs of the weight by rank");
}

at::Tensor on_device_logits(const at::Tensor& x, const at::Tensor& weight, const LowRank* adapter) {
  const auto f32 = x.options().dtype(at::kFloat);
  at::Tensor logits = at::empty({x.size(0), weight.size(0)}, f32);
  on_device::multiply(logits, x.contiguous(), weight.contiguous(), /*transposed=*/true);
  if (adapter != nullptr) {
    wait_for_device();
    const at::Tensor wide = x.to(at::kFloat), s = at::empty({x.size(0), adapter->a.size(0)}, f32);
    on_device::multiply(s, wide, adapter->a, /*transposed=*/true, adapter->scale);
    on_device::multiply(logits, s, adapter->b, /*transposed=*/true, 1, 1);
  }
  return logits;
}

}  // namespace

at::Tensor head_logits(const at::Tensor& x, const at::Tensor& weight, LowRank* adapter) {
  const c10::InferenceMode no_autograd;
  if (x.scalar_type() == at::kFloat) return lora_linear_forward(x, weight, {}, adapter, nullptr);
  check_arguments(x, weight, adapter);
  if (device() != Device::cpu) return on_device_logits(x, weight, adapter);
  const at::Tensor wide = x.to(at::kFloat).contiguous();
  at::Tensor logits = widened_product(wide, weight.contiguous());
  if (adapter != nullptr) logits.addmm_(at::mm(wide, adapter->a.t()).mul_(adapter->scale), adapter->b.t());
  return logits;
}

}  // namespace graft::kernels
