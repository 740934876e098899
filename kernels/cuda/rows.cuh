// Rows of a matrix read and written in chunks of 16 bytes by a team of threads: one warp for short rows, the block for long ones.
//
// A chunk is moved by one 16-byte access where the row allows it and element by element where it does not (a misaligned pointer
// or stride, the last elements of a row); beyond the end it holds zeros. Sums are taken in a fixed order: same bits always.
#pragma once

#include "kernels/cuda/device.cuh"

namespace graft::cuda {

constexpr int kRowThreads = 256, kRowWarps = kRowThreads / 32;
constexpr std::int64_t kWarpColumns = 1024;  // longest row that one warp takes
#if defined(__CUDACC__)
constexpr std::int64_t kMaxBlocks = 4096;  // more work than that is taken in turn
#else
constexpr std::int64_t kMaxBlocks = 6;  // so that tests take it in turn
#endif

template <class T>
constexpr int kChunk = 16 / static_cast<int>(sizeof(T));

// Chunks of a row that a thread keeps in registers: whole rows of up to 8192 elements are read once.
template <class T, bool kWhole>
constexpr int kKept = kWhole ? 32 / kChunk<T> : 1;

template <class T>
struct Chunk {
  uint4 raw;
};

template <class T>
GRAFT_DEVICE void unpack(const Chunk<T>& chunk, float (&v)[kChunk<T>]) {
  const std::uint32_t words[4] = {chunk.raw.x, chunk.raw.y, chunk.raw.z, chunk.raw.w};
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) {
    if constexpr (sizeof(T) == 2)
      v[i] = bits_to_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
    else
      v[i] = bits_to_float(words[i]);
  }
}

template <class T>
GRAFT_DEVICE Chunk<T> pack(const float (&v)[kChunk<T>]) {
  if constexpr (sizeof(T) == 2)
    return {{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])}};
  else
    return {{float_to_bits(v[0]), float_to_bits(v[1]), float_to_bits(v[2]), float_to_bits(v[3])}};
}

// May the rows be accessed 16 bytes at a time?
GRAFT_DEVICE bool aligned16(const void* first_row, std::int64_t stride, int element) {
  return (reinterpret_cast<std::uintptr_t>(first_row) | static_cast<std::uintptr_t>(stride) * static_cast<unsigned>(element)) %
             16 ==
         0;
}

// kWhole: the caller knows that rows are aligned and columns a multiple of the chunk.
template <bool kWhole = false, class T, class Index>
GRAFT_DEVICE Chunk<T> load_chunk(const T* row, Index begin, Index columns, bool aligned) {
  if constexpr (kWhole) {
    return {load16(row + begin)};
  } else {
    if (aligned && begin + kChunk<T> <= columns) return {load16(row + begin)};
    float v[kChunk<T>];
#pragma unroll
    for (int i = 0; i < kChunk<T>; ++i) v[i] = begin + i < columns ? to_float(row[begin + i]) : 0.f;
    return pack<T>(v);
  }
}

template <bool kWhole = false, class T, class Index>
GRAFT_DEVICE void store_chunk(T* row, Index begin, Index columns, bool aligned, const Chunk<T>& chunk) {
  if constexpr (kWhole) {
    store16(row + begin, chunk.raw);
  } else if (aligned && begin + kChunk<T> <= columns) {
    store16(row + begin, chunk.raw);
  } else {
    float v[kChunk<T>];
    unpack(chunk, v);
#pragma unroll
    for (int i = 0; i < kChunk<T>; ++i)
      if (begin + i < columns) row[begin + i] = from_float<T>(v[i]);
  }
}

struct Add {
  template <class V>
  static GRAFT_DEVICE V of(V a, V b) {
    return a + b;
  }
};
struct Max {
  static GRAFT_DEVICE float of(float a, float b) { return fmaxf(a, b); }
};

// Over groups of kLanes neighbouring lanes; all of the warp take part.
template <class Op, int kLanes = 32, class V>
GRAFT_DEVICE V warp_reduce(V v) {
#pragma unroll
  for (int bit = kLanes / 2; bit > 0; bit /= 2) v = Op::of(v, __shfl_xor_sync(kFullWarp, v, bit));
  return v;
}

// Over the kWarps warps of the block, a power of two; every thread gets the result. `partial` holds kWarps values, and may be
// used again afterwards if kAgain.
template <class Op, int kWarps, bool kAgain = true, class V>
GRAFT_DEVICE V block_reduce(V v, V* partial) {
  v = warp_reduce<Op>(v);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  v = warp_reduce<Op, kWarps>(partial[threadIdx.x % kWarps]);
  if constexpr (kAgain) __syncthreads();
  return v;
}

// The threads that share a row.
struct Team {
  bool warp;
  int size, rank;
  std::int64_t first_row, row_step;
};
GRAFT_DEVICE Team row_team(std::int64_t columns) {
  const auto thread = static_cast<int>(threadIdx.x);
  const std::int64_t block = blockIdx.x, blocks = gridDim.x;
  if (columns <= kWarpColumns) return {true, 32, thread % 32, block * kRowWarps + thread / 32, blocks * kRowWarps};
  return {false, kRowThreads, thread, block, blocks};
}
GRAFT_DEVICE float team_sum(const Team& team, float v, float* partial) {
  return team.warp ? warp_reduce<Add>(v) : block_reduce<Add, kRowWarps>(v, partial);
}

// Blocks of kRowThreads for `rows` rows.
inline unsigned row_blocks(std::int64_t rows, std::int64_t columns) {
  const std::int64_t per_block = columns <= kWarpColumns ? kRowWarps : 1;
  return static_cast<unsigned>(smaller((rows + per_block - 1) / per_block, kMaxBlocks));
}

}  // namespace graft::cuda
