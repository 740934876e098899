// CUDA threads on the host: the source of a kernel, compiled by g++, runs here one fibre per CUDA thread, and what a GPU leaves
// undefined is reported. Private to tests; docs/decisions/0007.
//
// Kernels are compiled with -fsanitize=thread but linked with the hooks of shadow.cpp instead of TSan, so that every load and
// store of a kernel is seen without a word in its source. A launch throws Fault for
//   - an access outside of the buffers, the shared arrays and the stack; misaligned 16-byte accesses
//   - two threads touching the same bytes, one of them writing, with no barrier between (within a block, or between blocks)
//   - a read of shared memory that nobody wrote (it holds NaN)
//   - a barrier that some threads of the block do not reach, or reach elsewhere; a lane missing from the mask of a warp's
//     operation, or gone; copies (cp.async) that nobody waited for
// Blocks, warps and lanes run in an order drawn from Options::order. Approximate functions are off by up to 2 ulp, as drawn from
// Options::noise. Limits: no reordering of memory by the hardware, no time, no registers; one launch at a time;
// a race of an atomic with a plain access is not seen (no kernel has atomics).
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#ifndef __VECTOR_TYPES_H__  // CUDA's own, in tests/support/gpu_main.cpp
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
#endif

namespace graft::simt {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A barrier, warp barrier or wait in the source.
struct SyncPoint {
  std::string_view file;  // __FILE__
  int line = 0;
  bool operator==(const SyncPoint&) const = default;
};

struct Options {
  std::uint64_t order = 1, noise = 1;
  SyncPoint dropped;  // this one does nothing: is its absence noticed?
};
Options& options();

// Those that were reached since the last call, each once.
std::vector<SyncPoint> take_sync_points();

struct Traffic {
  std::uint64_t read = 0, written = 0;  // bytes
};

// Device memory: bytes 0xff (NaN) until written. `granule` is the size of an element: threads race for granules.
void* allocate(std::size_t bytes, std::size_t granule);
void release(void* memory);
Traffic take_traffic(const void* memory);  // since the last call

// Waits for what was launched; 0, or CUDA's error. Here a launch has ended when it returns.
int finish();

template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count = 0) : data_(static_cast<T*>(allocate(count * sizeof(T), sizeof(T)))), count_(count) {}
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    for (std::size_t i = 0; i < count_; ++i) data_[i] = values[i];
  }
  Buffer(const Buffer& other) : Buffer(other.values()) {}
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Buffer& operator=(Buffer other) {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Buffer() { release(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) const { return data_[i]; }
  std::vector<T> values() const { return {data_, data_ + count_}; }
  Traffic take_traffic() const { return simt::take_traffic(data_); }

 private:
  T* data_;
  std::size_t count_;
};

struct Launch {
  const char* name;
  dim3 grid, block;
  std::size_t shared_bytes;       // dynamic
  std::vector<double> arguments;  // pointers as 0 or 1
};

// Runs every block of the grid; call(closure) is the kernel with its arguments.
void run(const Launch& launch, void (*call)(const void*), const void* closure);

// GRAFT_SIMT_LOG names a file that receives one JSON object per distinct launch (scripts/check-cuda compares with the manifest).
void log_launch(const Launch& launch);

}  // namespace graft::simt
