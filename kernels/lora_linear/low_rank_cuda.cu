#include "kernels/cuda/tiles.cuh"
#include "kernels/lora_linear/low_rank_cuda.h"

namespace graft::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kRows = 16 * kWarps, kDepth = 64;         // of shrink: rows of a block, elements of K at a time
constexpr int kShareRows = 32, kColumns = 32 * kWarps;  // of outer_sum: elements of M at a time, columns of a block
constexpr int kInvalidValue = 1;                        // cudaErrorInvalidValue

GRAFT_DEVICE bool aligned_rows(const void* rows, std::int64_t stride) { return aligned16(rows, stride, sizeof(bf16)); }

// Two tiles in flight: while one is multiplied the next arrives.
template <int kRank>
GRAFT_DEVICE void shrink(const Shrink& p) {
  constexpr int kStride = kDepth + kPad;
  GRAFT_SHARED(bf16, x_tiles, 2 * kRows * kStride);
  GRAFT_SHARED(bf16, a_tiles, 2 * kRank * kStride);
  const std::int64_t first = std::int64_t{blockIdx.x} * kRows, steps = (p.columns + kDepth - 1) / kDepth;
  const bf16 *x = static_cast<const bf16*>(p.x) + first * p.x_stride, *a = static_cast<const bf16*>(p.a);
  const bool x_aligned = aligned_rows(p.x, p.x_stride), a_aligned = aligned_rows(p.a, p.a_stride);
  const auto load = [&](std::int64_t step) {
    const std::int64_t k = step * kDepth, slot = step % 2;
    if (step < steps) {
      load_tile<kRows, kDepth, kThreads>(x_tiles + slot * kRows * kStride, x + k, p.x_stride, p.rows - first, p.columns - k,
                                         x_aligned);
      load_tile<kRank, kDepth, kThreads>(a_tiles + slot * kRank * kStride, a + k, p.a_stride, p.rank, p.columns - k, a_aligned);
    }
    copy_commit();
  };
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  float sum[kRank / 8][4] = {};
  load(0);
  for (std::int64_t step = 0; step < steps; ++step) {
    load(step + 1);
    GRAFT_COPY_WAIT(1);
    __syncthreads();
    multiply_rows<kRank, kDepth>(sum, x_tiles + (step % 2 * kRows + 16 * warp) * kStride, a_tiles + step % 2 * kRank * kStride);
    __syncthreads();
  }
  GRAFT_COPY_WAIT(0);
  auto* s = static_cast<bf16*>(p.s);
  const bool pairs = aligned16(p.s, p.s_stride, sizeof(bf16)) && p.rank % 2 == 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::int64_t row = first + 16 * warp + lane / 4 + 8 * i;
    if (row >= p.rows) continue;
#pragma unroll
    for (int n = 0; n < kRank / 8; ++n) {
      const int column = 8 * n + 2 * (lane % 4);
      const float low = p.scale * sum[n][2 * i], high = p.scale * sum[n][2 * i + 1];
      bf16* to = s + row * p.s_stride + column;
      if (column + 1 < p.rank)
        store_pair(to, low, high, pairs);
      else if (column < p.rank)
        *to = to_bf16(low);
    }
  }
}

// Share blockIdx.y of M, columns of blockIdx.x; each warp has 32 of the columns.
template <int kRank>
GRAFT_DEVICE void outer_sum_share(const OuterSum& p) {
  constexpr int kNarrowStride = kRank + kPad, kWideStride = kColumns + kPad;
  GRAFT_SHARED(bf16, narrow_tiles, 2 * kShareRows * kNarrowStride);
  GRAFT_SHARED(bf16, wide_tiles, 2 * kShareRows * kWideStride);
  const std::int64_t share = (p.rows + p.splits - 1) / p.splits, begin = share * blockIdx.y;
  const std::int64_t end = smaller(begin + share, p.rows), first = std::int64_t{blockIdx.x} * kColumns;
  const std::int64_t steps = begin < end ? (end - begin + kShareRows - 1) / kShareRows : 0;
  const bf16 *narrow = static_cast<const bf16*>(p.narrow), *wide = static_cast<const bf16*>(p.wide) + first;
  const bool narrow_aligned = aligned_rows(p.narrow, p.narrow_stride), wide_aligned = aligned_rows(p.wide, p.wide_stride);
  const auto load = [&](std::int64_t step) {
    const std::int64_t row = begin + step * kShareRows, slot = step % 2;
    if (step < steps) {
      load_tile<kShareRows, kRank, kThreads>(narrow_tiles + slot * kShareRows * kNarrowStride, narrow + row * p.narrow_stride,
                                             p.narrow_stride, end - row, p.rank, narrow_aligned);
      load_tile<kShareRows, kColumns, kThreads>(wide_tiles + slot * kShareRows * kWideStride, wide + row * p.wide_stride,
                                                p.wide_stride, end - row, p.columns - first, wide_aligned);
    }
    copy_commit();
  };
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  float sum[kRank / 16][4][4] = {};
  load(0);
  for (std::int64_t step = 0; step < steps; ++step) {
    load(step + 1);
    GRAFT_COPY_WAIT(1);
    __syncthreads();
    const bf16* a =
        narrow_tiles + step % 2 * kShareRows * kNarrowStride + (lane % 8 + lane / 16 * 8) * kNarrowStride + lane / 8 % 2 * 8;
    const bf16* b = wide_tiles + step % 2 * kShareRows * kWideStride + lane % 16 * kWideStride + 32 * warp + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kShareRows; k += 16) {
      unsigned fb[2][4];
      load_matrices<true>(b + k * kWideStride, fb[0]);
      load_matrices<true>(b + k * kWideStride + 16, fb[1]);
#pragma unroll
      for (int m = 0; m < kRank / 16; ++m) {
        unsigned fa[4];
        load_matrices<true>(a + k * kNarrowStride + 16 * m, fa);
#pragma unroll
        for (int n = 0; n < 4; ++n) multiply_accumulate(sum[m][n], fa, fb[n / 2][n % 2 * 2], fb[n / 2][n % 2 * 2 + 1]);
      }
    }
    __syncthreads();
  }
  GRAFT_COPY_WAIT(0);
  float* out = p.partial + blockIdx.y * p.rank * p.columns;
#pragma unroll
  for (int m = 0; m < kRank / 16; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int64_t row = 16 * m + lane / 4 + 8 * (i / 2), column = first + 32 * warp + 8 * n + 2 * (lane % 4) + i % 2;
        if (row < p.rank && column < p.columns) out[row * p.columns + column] = sum[m][n][i];
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kRowThreads)
    graft_outer_sum_final(const float* partial, float* out, std::int64_t out_stride, std::int64_t rank, std::int64_t columns,
                          std::int64_t splits, int transposed) {
  const std::int64_t count = rank * columns;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kRowThreads) {
    float total = 0;
    for (std::int64_t split = 0; split < splits; ++split) total += partial[split * count + i];
    const std::int64_t row = i / columns, column = i - row * columns;
    out[transposed != 0 ? column * out_stride + row : row * out_stride + column] += total;
  }
}

#define GRAFT_ENTRIES(R)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                                 \
      graft_shrink_##R(const void* x, const void* a, void* s, std::int64_t x_stride, std::int64_t a_stride,              \
                       std::int64_t s_stride, std::int64_t rows, std::int64_t columns, std::int64_t rank, float scale) { \
    shrink<R>({x, a, s, x_stride, a_stride, s_stride, rows, columns, rank, scale});                                      \
  }                                                                                                                      \
  extern "C" __global__ void __launch_bounds__(kThreads) graft_outer_sum_##R(                                            \
      const void* narrow, const void* wide, float* partial, std::int64_t narrow_stride, std::int64_t wide_stride,        \
      std::int64_t rows, std::int64_t rank, std::int64_t columns, std::int64_t splits) {                                 \
    outer_sum_share<R>({narrow, wide, partial, nullptr, narrow_stride, wide_stride, 0, rows, rank, columns, splits, 0}); \
  }

GRAFT_ENTRIES(16)
GRAFT_ENTRIES(32)
GRAFT_ENTRIES(64)

extern "C" int graft_shrink(const Shrink& p, Stream stream) {
  if (p.rows == 0 || p.rank == 0) return 0;
  if (p.rank > 64) return kInvalidValue;
  const auto blocks = static_cast<unsigned>((p.rows + kRows - 1) / kRows);
#define GRAFT_SHRINK(R)                                                                                                          \
  GRAFT_LAUNCH(graft_shrink_##R, blocks, kThreads, stream, p.x, p.a, p.s, p.x_stride, p.a_stride, p.s_stride, p.rows, p.columns, \
               p.rank, p.scale)
  return p.rank <= 16 ? GRAFT_SHRINK(16) : p.rank <= 32 ? GRAFT_SHRINK(32) : GRAFT_SHRINK(64);
}

extern "C" int graft_outer_sum(const OuterSum& p, Stream stream) {
  if (p.rows == 0 || p.rank == 0 || p.columns == 0) return 0;
  if (p.rank > 64) return kInvalidValue;
  const dim3 grid(static_cast<unsigned>((p.columns + kColumns - 1) / kColumns), static_cast<unsigned>(p.splits), 1);
#define GRAFT_OUTER_SUM(R)                                                                                                       \
  GRAFT_LAUNCH(graft_outer_sum_##R, grid, kThreads, stream, p.narrow, p.wide, p.partial, p.narrow_stride, p.wide_stride, p.rows, \
               p.rank, p.columns, p.splits)
  const int error = p.rank <= 16 ? GRAFT_OUTER_SUM(16) : p.rank <= 32 ? GRAFT_OUTER_SUM(32) : GRAFT_OUTER_SUM(64);
  if (error != 0) return error;
  const auto blocks = static_cast<unsigned>(smaller((p.rank * p.columns + kRowThreads - 1) / kRowThreads, kMaxBlocks));
  return GRAFT_LAUNCH(graft_outer_sum_final, blocks, kRowThreads, stream, static_cast<const float*>(p.partial), p.out,
                      p.out_stride, p.rank, p.columns, p.splits, p.transposed);
}

}  // namespace graft::cuda
