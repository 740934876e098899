#include "export/quantize/halves.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/half.h"
#include "core/simd.h"

namespace graft::exports {
namespace {

GRAFT_SIMD void to_bf16(const float* x, std::int64_t n, std::uint16_t* stored, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    stored[i] = bf16_from_f32(x[i]);
    values[i] = f32_from_bf16(stored[i]);
  }
}

GRAFT_SIMD void to_f16(const float* x, std::int64_t n, std::uint16_t* stored, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    stored[i] = f16_from_f32(x[i]);
    values[i] = f32_from_f16(stored[i]);
  }
}

}  // namespace

Halves to_halves(const at::Tensor& x, at::ScalarType type) {
  constexpr std::int64_t kGrain = 1 << 15;
  const at::Tensor from = x.contiguous();
  Halves halves = {at::empty(from.sizes(), at::TensorOptions().dtype(type)), at::empty(from.sizes(), at::kFloat)};
  const auto* const in = from.const_data_ptr<float>();
  auto* const stored = static_cast<std::uint16_t*>(halves.stored.mutable_data_ptr());
  auto* const values = halves.values.mutable_data_ptr<float>();
  const auto convert = type == at::kHalf ? to_f16 : to_bf16;
  at::parallel_for(0, from.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    convert(in + begin, end - begin, stored + begin, values + begin);
  });
  return halves;
}

}  // namespace graft::exports
