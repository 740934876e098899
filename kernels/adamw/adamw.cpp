#include "kernels/adamw/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/adamw/adamw_device.h"
#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

constexpr std::int64_t kBlock = 1 << 14;

GRAFT_SIMD double sum_of_squares(const float* g, std::int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  return sum;
}

struct Factors {
  float clip, keep, beta2, one_minus_beta1, one_minus_beta2, step, inverse_root, eps;
};

GRAFT_SIMD void update(float* p, const float* g, float* m, float* v, std::int64_t n, const Factors& f) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float gradient = g[i] * f.clip;
    m[i] += f.one_minus_beta1 * (gradient - m[i]);
    v[i] = f.beta2 * v[i] + f.one_minus_beta2 * gradient * gradient;
    p[i] = p[i] * f.keep - f.step * m[i] / (std::sqrt(v[i]) * f.inverse_root + f.eps);
  }
}

void check_arena(const char* name, const at::Tensor& arena, const at::Tensor& parameters) {
  check_shape("adamw", name, arena, parameters.sizes(), "as parameters");
  check_type("adamw", name, arena, at::kFloat, "a master in f32");
  if (!arena.is_contiguous() || arena.dim() != 1) fail("adamw", cat(name, " must be one flat contiguous array"));
}

}  // namespace

double global_norm(const at::Tensor& gradients) {
  check_arena("gradients", gradients, gradients);
  if (device() != Device::cpu) return on_device::global_norm(gradients);
  const std::int64_t n = gradients.numel(), blocks = (n + kBlock - 1) / kBlock;
  const float* g = gradients.const_data_ptr<float>();
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      partial[static_cast<std::size_t>(b)] = sum_of_squares(g + b * kBlock, std::min(kBlock, n - b * kBlock));
    }
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return std::sqrt(sum);
}

AdamWResult adamw_step(at::Tensor parameters, const at::Tensor& gradients, at::Tensor m, at::Tensor v, std::int64_t t,
                       const AdamWOptions& options) {
  const c10::InferenceMode no_autograd;
  check_arena("parameters", parameters, parameters);
  check_arena("gradients", gradients, parameters);
  check_arena("m", m, parameters);
  check_arena("v", v, parameters);
  if (t < 1) fail("adamw", cat("step number is ", t, " but counts from 1"));
  if (device() != Device::cpu) return on_device::adamw_step(parameters, gradients, m, v, t, options);
  AdamWResult result;
  result.norm = global_norm(gradients);
  if (!std::isfinite(result.norm)) return result;
  result.applied = true;
  const double clip = options.max_norm > 0 ? std::min(1.0, options.max_norm / (result.norm + 1e-6)) : 1.0;
  const auto step = static_cast<double>(t);
  const Factors factors{static_cast<float>(clip),
                        static_cast<float>(1 - options.lr * options.weight_decay),
                        static_cast<float>(options.beta2),
                        static_cast<float>(1 - options.beta1),
                        static_cast<float>(1 - options.beta2),
                        static_cast<float>(options.lr / (1 - std::pow(options.beta1, step))),
                        static_cast<float>(1 / std::sqrt(1 - std::pow(options.beta2, step))),
                        static_cast<float>(options.eps)};
  float *p = parameters.mutable_data_ptr<float>(), *first = m.mutable_data_ptr<float>(), *second = v.mutable_data_ptr<float>();
  const float* g = gradients.const_data_ptr<float>();
  at::parallel_for(0, parameters.numel(), kBlock, [&](std::int64_t begin, std::int64_t end) {
    update(p + begin, g + begin, first + begin, second + begin, end - begin, factors);
  });
  return result;
}

}  // namespace graft::kernels
