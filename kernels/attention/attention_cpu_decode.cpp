// Few queries against many keys: each row of K and V is read once and there is nothing to tile.
#include <cmath>
#include <limits>

#include "kernels/attention/attention_cpu.h"
#include "kernels/cpu/tasks.h"

namespace graft::kernels::cpu {
namespace {

template <class T>
GRAFT_SIMD void scores_of(const T* q, const T* keys, std::int64_t stride, std::int64_t n, std::int64_t d, float* scores) {
  for (std::int64_t j = 0; j < n; ++j) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < d; ++i) sum += load(q[i]) * load(keys[j * stride + i]);
    scores[j] = sum;
  }
}

GRAFT_SIMD float softmax_unscaled(float* scores, std::int64_t n, float scale, float cap) {
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    scores[j] = cap > 0 ? cap * fast_tanh(scores[j] * scale / cap) : scores[j] * scale;
    largest = scores[j] > largest ? scores[j] : largest;
  }
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < n; ++j) sum += scores[j] = fast_exp(scores[j] - largest);
  return sum;
}

template <class T>
GRAFT_SIMD void weighted_sum(const float* weights, const T* values, std::int64_t stride, std::int64_t n, std::int64_t d,
                             float* sums) {
  std::fill(sums, sums + d, 0.f);
  for (std::int64_t j = 0; j < n; ++j) {
#pragma omp simd
    for (std::int64_t i = 0; i < d; ++i) sums[i] += weights[j] * load(values[j * stride + i]);
  }
}

template <class T>
void decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options, at::Tensor out) {
  const std::int64_t queries = q.size(0), heads = q.size(1), d = q.size(2), keys = k.size(0), group = heads / k.size(1);
  const T *q_data = q.const_data_ptr<T>(), *k_data = k.const_data_ptr<T>(), *v_data = v.const_data_ptr<T>();
  T* out_data = out.mutable_data_ptr<T>();
  for_each_task(queries * heads, [&](std::int64_t task) {
    const std::int64_t query = task / heads, head = task % heads, position = keys - queries + query;
    const std::int64_t first = options.window > 0 ? std::max<std::int64_t>(0, position - options.window + 1) : 0;
    const std::int64_t n = position + 1 - first;
    std::vector<float> scores(static_cast<std::size_t>(n)), sums(static_cast<std::size_t>(d));
    scores_of(q_data + query * q.stride(0) + head * q.stride(1), k_data + first * k.stride(0) + head / group * k.stride(1),
              k.stride(0), n, d, scores.data());
    const float inverse =
        1.f / softmax_unscaled(scores.data(), n, static_cast<float>(options.scale), static_cast<float>(options.softcap));
    weighted_sum(scores.data(), v_data + first * v.stride(0) + head / group * v.stride(1), v.stride(0), n, d, sums.data());
    T* to = out_data + query * out.stride(0) + head * out.stride(1);
    for (std::int64_t i = 0; i < d; ++i) store(to[i], sums[static_cast<std::size_t>(i)] * inverse);
  });
}

}  // namespace

void attention_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options,
                      at::Tensor out) {
  by_type(q.scalar_type(), [&](auto type) { decode<decltype(type)>(q, k, v, options, out); });
}

}  // namespace graft::kernels::cpu
