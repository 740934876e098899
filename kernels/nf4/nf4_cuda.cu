#include "kernels/cuda/rows.cuh"
#include "kernels/nf4/nf4.h"

namespace graft::cuda {
namespace {

constexpr int kLanes = 8;  // of a block of 64, 8 elements each

// arXiv:2305.14314, appendix E.
GRAFT_DEVICE float level(int code) {
  constexpr float levels[16] = {-1.0f,
                                -0.6961928009986877f,
                                -0.5250730514526367f,
                                -0.39491748809814453f,
                                -0.28444138169288635f,
                                -0.18477343022823334f,
                                -0.09105003625154495f,
                                0.0f,
                                0.07958029955625534f,
                                0.16093020141124725f,
                                0.24611230194568634f,
                                0.33791524171829224f,
                                0.44070982933044434f,
                                0.5626170039176941f,
                                0.7229568362236023f,
                                1.0f};
  return levels[code];
}

GRAFT_DEVICE std::uint32_t code_of(float x) {
  std::uint32_t code = 0;
#pragma unroll
  for (int i = 0; i < 15; ++i) code += x > 0.5f * (level(i) + level(i + 1)) ? 1u : 0u;
  return code;
}

// Element i of a byte's two, or of a word's eight: bytes ascend, the high half of each is first.
GRAFT_DEVICE int nibble_shift(int i) { return 8 * (i / 2) + 4 * (1 - i % 2); }

template <class T>
GRAFT_DEVICE void load8(const T* values, std::int64_t begin, std::int64_t count, bool aligned, float (&v)[8]) {
#pragma unroll
  for (int part = 0; part < 8; part += kChunk<T>) {
    float chunk[kChunk<T>];
    unpack(load_chunk(values, begin + part, count, aligned), chunk);
#pragma unroll
    for (int i = 0; i < kChunk<T>; ++i) v[part + i] = chunk[i];
  }
}

template <class T>
GRAFT_DEVICE void quantize(const Nf4Quantize& a) {
  const auto* weight = static_cast<const T*>(a.weight);
  const bool aligned = aligned16(weight, 0, sizeof(T)), whole = reinterpret_cast<std::uintptr_t>(a.codes) % 4 == 0;
  const std::int64_t step = std::int64_t{gridDim.x} * kRowThreads * 8;
  // The bound is that of the warp: its lanes reduce together.
  for (std::int64_t first = (std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x / 32 * 32) * 8; first < a.count;
       first += step) {
    const std::int64_t begin = first + threadIdx.x % 32 * 8;
    float v[8], largest = 0;
    load8(weight, begin, a.count, aligned, v);
    bool nan = false;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      largest = fmaxf(largest, fabsf(v[i]));
      nan = nan || v[i] != v[i];
    }
    largest = warp_reduce<Max, kLanes>(largest);
    if (warp_reduce<Max, kLanes>(nan ? 1.f : 0.f) > 0.f) largest = bits_to_float(0x7fffffffu);  // seen in the scale
    if (begin % kNf4Block == 0 && begin < a.count) a.scales[begin / kNf4Block] = largest;
    const float inverse = 1.f / (largest < kNf4Smallest ? kNf4Smallest : largest);  // NaN stays
    std::uint32_t packed = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) packed |= code_of(v[i] * inverse) << nibble_shift(i);
    if (whole && begin + 8 <= a.count) {
      *reinterpret_cast<std::uint32_t*>(a.codes + begin / 2) = packed;
    } else {
#pragma unroll
      for (int i = 0; i < 8; i += 2)
        if (begin + i < a.count) a.codes[begin / 2 + i / 2] = static_cast<std::uint8_t>(packed >> 8 * (i / 2));
    }
  }
}

GRAFT_DEVICE float scale_of(const Nf4Dequantize& a, float offset, std::int64_t block) {
  return rounded_twice(a.map[a.scales8[block]], a.group_scales[block / kNf4Group], offset);
}

// Each lane holds a level, and the warp looks them up together. A thread writes eight neighbours where no row begins within a
// word of codes, else every 256th element.
template <class T>
GRAFT_DEVICE void dequantize(const Nf4Dequantize& a) {
  const bool aligned = aligned16(a.weight, a.stride, sizeof(T));
  const bool whole = a.columns % 8 == 0 && reinterpret_cast<std::uintptr_t>(a.codes) % 4 == 0;
  const float mine = level(static_cast<int>(threadIdx.x % 16)), offset = *a.offset;
  const std::int64_t block_begin = std::int64_t{blockIdx.x} * kRowThreads * 8;
  for (std::int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    T* out = static_cast<T*>(a.weight) + row * a.stride;
    const std::int64_t row_begin = row * a.columns;
    if (whole) {
      const std::int64_t begin = block_begin + std::int64_t{threadIdx.x} * 8, at = row_begin + begin;
      const bool inside = begin < a.columns;
      const std::uint32_t packed = inside ? *reinterpret_cast<const std::uint32_t*>(a.codes + at / 2) : 0;
      const float scale = inside ? scale_of(a, offset, at / kNf4Block) : 0.f;
#pragma unroll
      for (int part = 0; part < 8; part += kChunk<T>) {
        float v[kChunk<T>];
#pragma unroll
        for (int i = 0; i < kChunk<T>; ++i) v[i] = __shfl_sync(kFullWarp, mine, packed >> nibble_shift(part + i) & 15u) * scale;
        if (inside) store_chunk(out, begin + part, a.columns, aligned, pack<T>(v));
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const std::int64_t column = block_begin + i * kRowThreads + threadIdx.x, at = row_begin + column;
        const bool inside = column < a.columns;
        const std::uint32_t code = inside ? a.codes[at / 2] >> nibble_shift(static_cast<int>(at % 2)) & 15u : 0;
        const float value = __shfl_sync(kFullWarp, mine, code);
        if (inside) out[column] = from_float<T>(value * scale_of(a, offset, at / kNf4Block));
      }
    }
  }
}

}  // namespace

#define GRAFT_ENTRIES(T)                                                                                                        \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                                     \
      graft_nf4_quantize_##T(const void* weight, std::uint8_t* codes, float* scales, std::int64_t count) {                      \
    quantize<T>({weight, codes, scales, count});                                                                                \
  }                                                                                                                             \
  extern "C" __global__ void __launch_bounds__(kRowThreads) graft_nf4_dequantize_##T(                                           \
      const std::uint8_t* codes, const std::uint8_t* scales8, const float* group_scales, const float* offset, const float* map, \
      void* weight, std::int64_t stride, std::int64_t rows, std::int64_t columns) {                                             \
    dequantize<T>({codes, scales8, group_scales, offset, map, weight, stride, rows, columns});                                  \
  }

GRAFT_ENTRIES(bf16)
GRAFT_ENTRIES(f32)

extern "C" int graft_nf4_quantize(DType type, const Nf4Quantize& a, Stream stream) {
  if (a.count == 0) return 0;
  const auto blocks = static_cast<unsigned>(smaller((a.count + 8 * kRowThreads - 1) / (8 * kRowThreads), kMaxBlocks));
  return GRAFT_LAUNCH_TYPED(type, graft_nf4_quantize, blocks, kRowThreads, stream, a.weight, a.codes, a.scales, a.count);
}

extern "C" int graft_nf4_dequantize(DType type, const Nf4Dequantize& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  const std::int64_t per_block = 8 * kRowThreads;
  const dim3 grid(static_cast<unsigned>((a.columns + per_block - 1) / per_block),
                  static_cast<unsigned>(smaller(a.rows, kMaxBlocks)), 1);
  return GRAFT_LAUNCH_TYPED(type, graft_nf4_dequantize, grid, kRowThreads, stream, a.codes, a.scales8, a.group_scales, a.offset,
                            a.map, a.weight, a.stride, a.rows, a.columns);
}

}  // namespace graft::cuda
