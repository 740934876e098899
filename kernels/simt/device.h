// The part of CUDA C++ that kernels use, for g++: kernels/cuda/device.cuh includes it where nvcc does not compile.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "kernels/cuda/launch.h"
#include "kernels/simt/simt.h"

struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

#define __global__
#define __launch_bounds__(...)

namespace graft::simt {

void barrier(const char* file, int line);
void warp_barrier(const char* file, int line, unsigned mask);
void* shared_array(const void* key, std::size_t bytes);
void* dynamic_shared(std::size_t bytes);
unsigned lane();
void warp_operation(unsigned mask, void (*operation)(void* const* lanes, unsigned mask), void* argument);
void copy_async(void* to, const void* from, std::size_t bytes);
void copy_async_commit();
void copy_async_wait(const char* file, int line, std::size_t groups);
void check_aligned(const void* address, std::size_t alignment);
uint4 load16(const void* address);  // one access, whatever the compiler makes of copies of structs
void store16(void* address, uint4 value);
void atomic_access(const void* address, std::size_t bytes);
float approximate(double exact, std::uint32_t input);  // off by up to 2 ulp, the same for the same input

void load_matrix(const void* row, unsigned (&fragment)[4], bool transposed);
void multiply_accumulate(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

template <class T>
struct Shuffle {
  T value, result;
  unsigned source;
};
template <class T>
T shuffle(unsigned mask, T value, unsigned source) {
  Shuffle<T> mine{value, value, source};
  warp_operation(
      mask,
      [](void* const* lanes, unsigned active) {
        for (unsigned i = 0; i < 32; ++i) {
          if (!(active >> i & 1)) continue;
          auto* to = static_cast<Shuffle<T>*>(lanes[i]);
          // A lane outside of the mask has no value: all bits set, a NaN.
          if (active >> (to->source & 31) & 1)
            to->result = static_cast<const Shuffle<T>*>(lanes[to->source & 31])->value;
          else
            std::memset(static_cast<void*>(&to->result), 0xff, sizeof(T));
        }
      },
      &mine);
  return mine.result;
}

// Arguments of a launch as numbers, for the log.
template <class T>
double as_number(T value) {
  if constexpr (std::is_pointer_v<T>)
    return value == nullptr ? 0 : 1;
  else
    return static_cast<double>(value);
}

void enqueue(std::function<void()> job);  // for graft_runtime_synchronize (kernels/cuda/runtime.h)

// At once without a stream.
template <class Kernel, class... Arguments>
int launch(cuda::Stream stream, const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, Kernel* kernel,
           Arguments... arguments) {
  const auto job = [=] {
    const auto closure = [=] { kernel(arguments...); };  // on the stack, where a kernel may read its arguments
    run(
        {name, grid, block, shared_bytes, {as_number(arguments)...}},
        [](const void* c) { (*static_cast<decltype(closure)*>(c))(); }, &closure);
  };
  if (stream == nullptr)
    job();
  else
    enqueue(job);
  return 0;
}

}  // namespace graft::simt

#define __syncthreads() ::graft::simt::barrier(__FILE__, __LINE__)
#define __syncwarp() ::graft::simt::warp_barrier(__FILE__, __LINE__, 0xffffffffu)

template <class T>
T __shfl_sync(unsigned mask, T value, unsigned source) {
  return graft::simt::shuffle(mask, value, source);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned bits) {
  return graft::simt::shuffle(mask, value, graft::simt::lane() ^ bits);
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
  unsigned result = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (mask >> i & 1) result |= graft::simt::shuffle(mask, static_cast<unsigned>(vote), i) << i;
  return result;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }
inline bool __all_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) == mask; }

// Atomic operations do not race: the accesses themselves are kept from the hooks.
template <class T>
[[gnu::no_sanitize("thread")]] T atomicAdd(T* address, T value) {
  graft::simt::atomic_access(address, sizeof(T));
  const T before = *address;
  *address = before + value;
  return before;
}
template <class T>
[[gnu::no_sanitize("thread")]] T atomicMax(T* address, T value) {
  graft::simt::atomic_access(address, sizeof(T));
  const T before = *address;
  *address = before < value ? value : before;
  return before;
}

inline std::uint32_t __umulhi(std::uint32_t a, std::uint32_t b) { return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32); }
