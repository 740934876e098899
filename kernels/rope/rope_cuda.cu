#include "kernels/rope/rope_cuda.h"

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

// Chunks of both halves at once, so that a pair is turned by the thread that read it.
template <class T>
GRAFT_DEVICE void turn(T* low, T* high, const float* cos, const float* sin, std::int64_t begin, std::int64_t half, bool aligned,
                       bool table_aligned, float direction) {
  float a[kChunk<T>], b[kChunk<T>], c[kChunk<T>], s[kChunk<T>];
  unpack(load_chunk(low, begin, half, aligned), a);
  unpack(load_chunk(high, begin, half, aligned), b);
#pragma unroll
  for (int part = 0; part < kChunk<T>; part += 4) {
    float quarter[4];
    unpack(load_chunk(cos, begin + part, half, table_aligned), quarter);
#pragma unroll
    for (int i = 0; i < 4; ++i) c[part + i] = quarter[i];
    unpack(load_chunk(sin, begin + part, half, table_aligned), quarter);
#pragma unroll
    for (int i = 0; i < 4; ++i) s[part + i] = direction * quarter[i];
  }
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) {
    const float x = a[i], y = b[i];
    a[i] = x * c[i] - y * s[i];
    b[i] = y * c[i] + x * s[i];
  }
  store_chunk(low, begin, half, aligned, pack<T>(a));
  store_chunk(high, begin, half, aligned, pack<T>(b));
}

// One warp per token, each lane a chunk of a head.
template <class T>
GRAFT_DEVICE void rope(const Rope& a) {
  const int bytes = sizeof(T);
  const bool aligned =
      aligned16(a.x, a.token_stride, bytes) && aligned16(a.x, a.head_stride, bytes) && aligned16(a.x, a.half, bytes);
  const bool table_aligned = aligned16(a.cos, a.half, 4) && aligned16(a.sin, a.half, 4);
  const auto chunks = static_cast<int>((a.half + kChunk<T> - 1) / kChunk<T>), lane = static_cast<int>(threadIdx.x % 32);
  const int items = static_cast<int>(a.heads) * chunks;
  for (std::int64_t token = blockIdx.x * std::int64_t{kRowWarps} + threadIdx.x / 32; token < a.tokens;
       token += gridDim.x * std::int64_t{kRowWarps}) {
    const float *cos = a.cos + token * a.half, *sin = a.sin + token * a.half;
    for (int item = lane; item < items; item += 32) {
      const int head = item / chunks, begin = (item - head * chunks) * kChunk<T>;
      T* low = static_cast<T*>(a.x) + token * a.token_stride + head * a.head_stride;
      turn(low, low + a.half, cos, sin, begin, a.half, aligned, table_aligned, a.direction);
    }
  }
}

}  // namespace

#define GRAFT_ENTRY(T)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                            \
      graft_rope_##T(void* x, const float* cos, const float* sin, std::int64_t token_stride, std::int64_t head_stride, \
                     std::int64_t tokens, std::int64_t heads, std::int64_t half, float direction) {                    \
    rope<T>({x, cos, sin, token_stride, head_stride, tokens, heads, half, direction});                                 \
  }

GRAFT_ENTRY(bf16)
GRAFT_ENTRY(f32)

extern "C" int graft_rope(DType type, const Rope& a, Stream stream) {
  if (a.tokens == 0 || a.heads == 0 || a.half == 0) return 0;
  const auto blocks = static_cast<unsigned>(smaller((a.tokens + kRowWarps - 1) / kRowWarps, kMaxBlocks));
  return GRAFT_LAUNCH_TYPED(type, graft_rope, blocks, kRowThreads, stream, a.x, a.cos, a.sin, a.token_stride, a.head_stride,
                            a.tokens, a.heads, a.half, a.direction);
}

}  // namespace graft::cuda
