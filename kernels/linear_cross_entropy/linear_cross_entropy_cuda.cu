#include "kernels/linear_cross_entropy/linear_cross_entropy_cuda.h"

#include <cfloat>
#include <cmath>

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;

GRAFT_DEVICE float capped(float z, float cap) { return cap > 0.f ? cap * tanhf(z / cap) : z; }

// Sum of exp(z - largest) over what was seen, the label left out.
struct Online {
  float largest = -FLT_MAX;  // finite, so that a thread without logits contributes exp(-huge) = 0 and not a NaN
  float others = 0, sum = 0;
};

template <class T>
GRAFT_DEVICE void take(Online& o, const Chunk<T>& chunk, std::int64_t begin, std::int64_t columns, std::int64_t label,
                       float cap) {
  float z[kChunk<T>], largest = o.largest;
  unpack(chunk, z);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) {
    if (begin + i >= columns) break;
    z[i] = capped(z[i], cap);
    largest = fmaxf(largest, z[i]);
    o.sum += z[i];
  }
  o.others *= fast_exp(o.largest - largest);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i)
    if (begin + i < columns && begin + i != label) o.others += fast_exp(z[i] - largest);
  o.largest = largest;
}

template <class T>
GRAFT_DEVICE void rows(const CrossEntropyRows& a) {
  GRAFT_SHARED(float, partial, kWarps);
  const bool aligned = aligned16(a.logits, a.stride, sizeof(T));
  const auto first = static_cast<std::int64_t>(threadIdx.x) * kChunk<T>;
  constexpr std::int64_t step = kThreads * kChunk<T>;
  const auto count = static_cast<float>(a.columns);
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    T* z = static_cast<T*>(a.logits) + row * a.stride;
    const std::int64_t label = a.labels[row];
    const auto write = [&](auto gradient) {
      for (std::int64_t begin = first; begin < a.columns; begin += step)
        store_chunk(z, begin, a.columns, aligned, gradient(begin));
    };
    if (label < 0) {
      if (a.want_grad != 0) write([](std::int64_t) { return Chunk<T>{}; });
      if (threadIdx.x == 0) {
        a.loss[row] = 0.f;
        if (a.logprob != nullptr) a.logprob[row] = 0.f;
      }
      continue;
    }
    const float target = label < a.columns ? capped(to_float(z[label]), a.softcap) : NAN;
    Online o;
    for (std::int64_t begin = first; begin < a.columns; begin += step)
      take(o, load_chunk(static_cast<const T*>(z), begin, a.columns, aligned), begin, a.columns, label, a.softcap);
    // After this barrier nobody reads the label's logit again: the row may be overwritten.
    const float largest = block_reduce<Max, kWarps>(o.largest, partial);
    const float others = block_reduce<Add, kWarps>(o.others * fast_exp(o.largest - largest), partial);
    const float mean = block_reduce<Add, kWarps>(o.sum, partial) / count;
    const float above = target - largest, sum = others + expf(above), lse = largest + logf(sum);
    const float logprob = above > -0.5f ? -log1pf(others * expf(-above)) : above - logf(sum);
    const float spread_loss = a.smoothing > 0.f ? a.smoothing * (lse - mean) : 0.f;  // a masked logit makes the mean infinite
    const float weight = a.row_weight != nullptr ? a.row_weight[row] : 1.f;
    if (threadIdx.x == 0) {
      a.loss[row] = weight * ((a.smoothing - 1.f) * logprob + spread_loss + a.z_loss * lse * lse);
      if (a.logprob != nullptr) a.logprob[row] = logprob;
    }
    if (a.want_grad == 0) continue;
    const float scale = a.grad_scale * weight;
    const float spread = a.smoothing / count, slope = 2.f * a.z_loss * lse, factor = (1.f + slope) / sum;
    const float at_label = slope * (1.f - others / sum) - others / sum + a.smoothing - spread;
    write([&](std::int64_t begin) {
      float v[kChunk<T>];
      unpack(load_chunk(static_cast<const T*>(z), begin, a.columns, aligned), v);
#pragma unroll
      for (int i = 0; i < kChunk<T>; ++i) {
        const float value = capped(v[i], a.softcap), t = a.softcap > 0.f ? value / a.softcap : 0.f;
        const float d = begin + i == label ? at_label : factor * fast_exp(value - largest) - spread;
        v[i] = scale * d * (1.f - t * t);
      }
      return pack<T>(v);
    });
  }
}

}  // namespace

#define GRAFT_ENTRY(T)                                                                                                      \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                                    \
      graft_cross_entropy_rows_##T(void* logits, const std::int64_t* labels, const float* row_weight, float* loss,          \
                                   float* logprob, std::int64_t stride, std::int64_t row_count, std::int64_t columns,       \
                                   float softcap, float z_loss, float smoothing, float grad_scale, int want_grad) {         \
    rows<T>({logits, labels, row_weight, loss, logprob, stride, row_count, columns, softcap, z_loss, smoothing, grad_scale, \
             want_grad});                                                                                                   \
  }

GRAFT_ENTRY(bf16)
GRAFT_ENTRY(f32)

extern "C" int graft_cross_entropy_rows(DType type, const CrossEntropyRows& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  return GRAFT_LAUNCH_TYPED(type, graft_cross_entropy_rows, static_cast<unsigned>(smaller(a.rows, kMaxBlocks)), kThreads, stream,
                            a.logits, a.labels, a.row_weight, a.loss, a.logprob, a.stride, a.rows, a.columns, a.softcap, a.z_loss,
                            a.smoothing, a.grad_scale, a.want_grad);
}

}  // namespace graft::cuda
