#include "kernels/adamw/adamw_cuda.h"

#include <cmath>

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

struct Factors {
  double max_norm;
  float keep, beta2, one_minus_beta1, one_minus_beta2, step, inverse_root, eps;
};

GRAFT_DEVICE void update(float& p, float g, float& m, float& v, float clip, const Factors& f) {
  const float gradient = g * clip;
  m += f.one_minus_beta1 * (gradient - m);
  v = f.beta2 * v + f.one_minus_beta2 * gradient * gradient;
  p = p * f.keep - f.step * m / (sqrtf(v) * f.inverse_root + f.eps);
}

GRAFT_DEVICE void step(float* parameters, float* first, float* second, const float* gradients, const double* norm,
                       std::int64_t count, const Factors& f) {
  if (!is_finite(*norm)) return;
  const double limit = f.max_norm / (*norm + 1e-6);
  const auto clip = static_cast<float>(f.max_norm > 0 && limit < 1 ? limit : 1.0);
  const bool aligned =
      aligned16(parameters, 0, 4) && aligned16(first, 0, 4) && aligned16(second, 0, 4) && aligned16(gradients, 0, 4);
  const std::int64_t stride = std::int64_t{gridDim.x} * kRowThreads * kChunk<float>;
  for (std::int64_t begin = (std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kChunk<float>; begin < count;
       begin += stride) {
    float p[4], g[4], m[4], v[4];
    unpack(load_chunk(static_cast<const float*>(parameters), begin, count, aligned), p);
    unpack(load_chunk(gradients, begin, count, aligned), g);
    unpack(load_chunk(static_cast<const float*>(first), begin, count, aligned), m);
    unpack(load_chunk(static_cast<const float*>(second), begin, count, aligned), v);
#pragma unroll
    for (int i = 0; i < 4; ++i) update(p[i], g[i], m[i], v[i], clip, f);
    store_chunk(parameters, begin, count, aligned, pack<float>(p));
    store_chunk(first, begin, count, aligned, pack<float>(m));
    store_chunk(second, begin, count, aligned, pack<float>(v));
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kRowThreads)
    graft_norm_partial(const float* gradients, double* partial, std::int64_t count) {
  GRAFT_SHARED(double, sums, kRowWarps);
  const bool aligned = aligned16(gradients, 0, 4);
  double total = 0;
  const std::int64_t stride = std::int64_t{gridDim.x} * kRowThreads * kChunk<float>;
  for (std::int64_t begin = (std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kChunk<float>; begin < count;
       begin += stride) {
    float g[4];
    unpack(load_chunk(gradients, begin, count, aligned), g);
#pragma unroll
    for (int i = 0; i < 4; ++i) total += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  }
  total = block_reduce<Add, kRowWarps, false>(total, sums);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(kNormBlocks) graft_norm_final(const double* partial, double* norm) {
  GRAFT_SHARED(double, sums, kNormBlocks / 32);
  const double total = block_reduce<Add, kNormBlocks / 32, false>(partial[threadIdx.x], sums);
  if (threadIdx.x == 0) *norm = sqrt(total);
}

extern "C" __global__ void __launch_bounds__(kRowThreads)
    graft_adamw_update(float* parameters, float* m, float* v, const float* gradients, const double* norm, std::int64_t count,
                       double max_norm, float keep, float beta2, float one_minus_beta1, float one_minus_beta2, float step_size,
                       float inverse_root, float eps) {
  step(parameters, m, v, gradients, norm, count,
       {max_norm, keep, beta2, one_minus_beta1, one_minus_beta2, step_size, inverse_root, eps});
}

extern "C" int graft_gradient_norm(const GradientNorm& a, Stream stream) {
  if (const int error = GRAFT_LAUNCH(graft_norm_partial, kNormBlocks, kRowThreads, stream, a.gradients, a.partial, a.count))
    return error;
  return GRAFT_LAUNCH(graft_norm_final, 1, kNormBlocks, stream, a.partial, a.norm);
}

extern "C" int graft_adamw_step(const AdamWStep& a, Stream stream) {
  if (a.count == 0) return 0;
  const std::int64_t per_block = kRowThreads * kChunk<float>;
  const auto blocks = static_cast<unsigned>(smaller((a.count + per_block - 1) / per_block, kMaxBlocks));
  const auto t = static_cast<double>(a.t);
  return GRAFT_LAUNCH(graft_adamw_update, blocks, kRowThreads, stream, a.parameters, a.m, a.v, a.gradients, a.norm, a.count,
                      a.max_norm, static_cast<float>(1 - a.lr * a.weight_decay), static_cast<float>(a.beta2),
                      static_cast<float>(1 - a.beta1), static_cast<float>(1 - a.beta2),
                      static_cast<float>(a.lr / (1 - std::pow(a.beta1, t))),
                      static_cast<float>(1 / std::sqrt(1 - std::pow(a.beta2, t))), static_cast<float>(a.eps));
}

}  // namespace graft::cuda
