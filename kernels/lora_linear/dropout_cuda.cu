#include "kernels/lora_linear/dropout_cuda.h"

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

constexpr std::uint64_t kDropoutStream = 3;  // Stream::dropout of core/rng.h

// philox of core/rng.h, with the counter's upper half fixed.
GRAFT_DEVICE uint4 philox(std::uint64_t seed, std::uint64_t counter) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter), c1 = static_cast<std::uint32_t>(counter >> 32), c2 = 0,
                c3 = kDropoutStream;
  std::uint32_t key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint32_t high0 = __umulhi(0xD2511F53u, c0), high1 = __umulhi(0xCD9E8D57u, c2);
    const std::uint32_t low0 = 0xD2511F53u * c0, low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

template <class T>
GRAFT_DEVICE void dropout(const T* x, T* y, std::int64_t x_stride, std::int64_t y_stride, std::int64_t rows, std::int64_t columns,
                          std::uint64_t seed, std::uint32_t threshold, float keep_scale, bool add) {
  const int bytes = sizeof(T);
  const bool aligned = aligned16(x, x_stride, bytes) && aligned16(y, y_stride, bytes);
  const std::int64_t begin = (std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kChunk<T>, quads = (columns + 3) / 4;
  if (begin >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float v[kChunk<T>], before[kChunk<T>] = {};
    unpack(load_chunk(x + row * x_stride, begin, columns, aligned), v);
    T* out = y + row * y_stride;
    if (add) unpack(load_chunk(static_cast<const T*>(out), begin, columns, aligned), before);
#pragma unroll
    for (int quad = 0; quad < kChunk<T> / 4; ++quad) {
      const uint4 draw = philox(seed, static_cast<std::uint64_t>(row * quads + begin / 4 + quad));
      const std::uint32_t words[4] = {draw.x, draw.y, draw.z, draw.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        v[4 * quad + i] = before[4 * quad + i] + (words[i] < threshold ? 0.f : v[4 * quad + i] * keep_scale);
    }
    store_chunk(out, begin, columns, aligned, pack<T>(v));
  }
}

}  // namespace

#define GRAFT_ENTRY(T)                                                                                                    \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                               \
      graft_dropout_##T(const void* x, void* y, std::int64_t x_stride, std::int64_t y_stride, std::int64_t rows,          \
                        std::int64_t columns, std::uint64_t seed, std::uint32_t threshold, float keep_scale, int add) {   \
    dropout(static_cast<const T*>(x), static_cast<T*>(y), x_stride, y_stride, rows, columns, seed, threshold, keep_scale, \
            add != 0);                                                                                                    \
  }

GRAFT_ENTRY(bf16)
GRAFT_ENTRY(f32)

extern "C" int graft_dropout(DType type, const Dropout& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  const std::int64_t per_block = kRowThreads * (type == DType::bf16 ? kChunk<bf16> : kChunk<f32>);
  const dim3 grid(static_cast<unsigned>((a.columns + per_block - 1) / per_block),
                  static_cast<unsigned>(smaller(a.rows, kMaxBlocks)), 1);
  return GRAFT_LAUNCH_TYPED(type, graft_dropout, grid, kRowThreads, stream, a.x, a.y, a.x_stride, a.y_stride, a.rows, a.columns,
                            a.seed, static_cast<std::uint32_t>(a.probability * 4294967296.0),
                            static_cast<float>(1 / (1 - a.probability)), a.add);
}

}  // namespace graft::cuda
