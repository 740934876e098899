// What a kernel may use beyond plain C++: thin names over CUDA under nvcc, the simulator of kernels/simt under g++. Every .cu
// includes it, directly or through rows.cuh or tiles.cuh, and nothing of CUDA besides.
//
//   GRAFT_DEVICE            before a device function
//   GRAFT_SHARED(T, x, n)   T x[n] in shared memory, 16-byte aligned
//   GRAFT_DYNAMIC_SHARED(T, x, n)   the same in what the launch grants (up to 99 KiB), one per kernel
//   GRAFT_LAUNCH(kernel, grid, block, stream, arguments...)             an int, cudaSuccess or an error
//   GRAFT_LAUNCH_SHARED(kernel, grid, block, bytes, stream, arguments...)  with dynamic shared memory
//   GRAFT_LAUNCH_TYPED(dtype, kernel, grid, block, stream, arguments...)   kernel_bf16 or kernel_f32
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

#if defined(__CUDACC__)

#include <cuda_bf16.h>

#define GRAFT_DEVICE __device__ __forceinline__
#define GRAFT_HOST_DEVICE __host__ __device__ __forceinline__
#define GRAFT_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define GRAFT_DYNAMIC_SHARED(type, name, count)                         \
  extern __shared__ __align__(16) unsigned char graft_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(graft_dynamic_shared)
#define GRAFT_LAUNCH(kernel, grid, block, stream, ...) \
  ((kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)), static_cast<int>(cudaGetLastError()))
#define GRAFT_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...)                                                     \
  [&] {                                                                                                                  \
    const auto set = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)); \
    if (set != cudaSuccess) return static_cast<int>(set);                                                                \
    kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__);                                                                 \
    return static_cast<int>(cudaGetLastError());                                                                         \
  }()

#else

#include "kernels/simt/device.h"

#define GRAFT_DEVICE inline
#define GRAFT_HOST_DEVICE inline
#define GRAFT_SHARED(type, name, count) \
  static const char name##_key = 0;     \
  type* const name = static_cast<type*>(::graft::simt::shared_array(&name##_key, sizeof(type) * (count)))
#define GRAFT_DYNAMIC_SHARED(type, name, count) \
  type* const name = static_cast<type*>(::graft::simt::dynamic_shared(sizeof(type) * (count)))
#define GRAFT_LAUNCH(kernel, grid, block, stream, ...) GRAFT_LAUNCH_SHARED(kernel, grid, block, 0, stream, __VA_ARGS__)
#define GRAFT_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...) \
  ::graft::simt::launch(stream, #kernel, dim3(grid), dim3(block), bytes, kernel, __VA_ARGS__)

#endif

#define GRAFT_LAUNCH_TYPED(dtype, kernel, grid, block, stream, ...)                                      \
  ((dtype) == ::graft::cuda::DType::bf16 ? GRAFT_LAUNCH(kernel##_bf16, grid, block, stream, __VA_ARGS__) \
                                         : GRAFT_LAUNCH(kernel##_f32, grid, block, stream, __VA_ARGS__))

namespace graft::cuda {

constexpr unsigned kFullWarp = 0xffffffffu;

// a b + c in two roundings, where nvcc would make one of them and the host does not.
GRAFT_DEVICE float rounded_twice(float a, float b, float c) {
#if defined(__CUDACC__)
  return __fadd_rn(__fmul_rn(a, b), c);
#else
  return a * b + c;
#endif
}

using f32 = float;
struct bf16 {
  std::uint16_t bits;
};

#if defined(__CUDACC__)

GRAFT_DEVICE float bits_to_float(std::uint32_t bits) { return __uint_as_float(bits); }
GRAFT_DEVICE std::uint32_t float_to_bits(float x) { return __float_as_uint(x); }

// Two values rounded to nearest even, the first in the low half; NaN stays NaN.
GRAFT_DEVICE std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return std::uint32_t{__bfloat16_as_ushort(pair.x)} | std::uint32_t{__bfloat16_as_ushort(pair.y)} << 16;
}
GRAFT_DEVICE bf16 to_bf16(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }

GRAFT_DEVICE float fast_exp(float x) { return __expf(x); }
GRAFT_DEVICE float fast_rsqrt(float x) { return rsqrtf(x); }
GRAFT_DEVICE bool is_finite(double x) { return isfinite(x); }

#else

GRAFT_DEVICE float bits_to_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
GRAFT_DEVICE std::uint32_t float_to_bits(float x) { return std::bit_cast<std::uint32_t>(x); }

GRAFT_DEVICE bf16 to_bf16(float x) {
  const std::uint32_t bits = float_to_bits(x);
  return {static_cast<std::uint16_t>(x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
GRAFT_DEVICE std::uint32_t pack_bf16(float low, float high) {
  return std::uint32_t{to_bf16(low).bits} | std::uint32_t{to_bf16(high).bits} << 16;
}

GRAFT_DEVICE float fast_exp(float x) { return simt::approximate(std::exp(static_cast<double>(x)), float_to_bits(x)); }
GRAFT_DEVICE float fast_rsqrt(float x) { return simt::approximate(1 / std::sqrt(static_cast<double>(x)), float_to_bits(x)); }
GRAFT_DEVICE bool is_finite(double x) { return std::isfinite(x); }

#endif

GRAFT_DEVICE float to_float(float x) { return x; }
GRAFT_DEVICE float to_float(bf16 x) { return bits_to_float(std::uint32_t{x.bits} << 16); }

template <class T>
GRAFT_DEVICE T from_float(float x) {
  if constexpr (sizeof(T) == 2)
    return to_bf16(x);
  else
    return x;
}

// 16 bytes at once; the address is a multiple of 16.
GRAFT_DEVICE uint4 load16(const void* address) {
#if defined(__CUDACC__)
  return *static_cast<const uint4*>(address);
#else
  return simt::load16(address);
#endif
}
GRAFT_DEVICE void store16(void* address, uint4 value) {
#if defined(__CUDACC__)
  // A plain assignment was taken apart into four stores here and there.
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(address)), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
#else
  simt::store16(address, value);
#endif
}

template <class T>
GRAFT_HOST_DEVICE T smaller(T a, T b) {
  return b < a ? b : a;
}

}  // namespace graft::cuda
