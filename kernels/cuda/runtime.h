// What the host needs of a GPU besides launches, behind a C interface without CUDA's headers and without LibTorch: the device,
// its memory, its one stream. libgraft_cuda.so has it of CUDA (kernels/cuda/runtime.cpp), libgraft_simt.so of the simulator
// (kernels/simt/runtime.cpp); the same host code (kernels/device.h, device_memory.h) runs on either.
//
// Memory has one address for host and device. What is given to the stream happens in its order, some time before
// graft_runtime_synchronize returns: until then the host must neither read what a kernel writes nor write what one reads. The
// simulator begins nothing before that call, so that host code which does not wait computes something else there.
// Functions that return text return null when all is well; the text stays valid until the next call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace graft::cuda {

struct RuntimeDevice {
  char name[256];
  int major, minor;                       // compute capability
  std::uint64_t total_bytes, free_bytes;  // of its memory
};

// The first device; to be called before the others. The text: why it cannot be used.
extern "C" const char* graft_runtime_open(RuntimeDevice* device);
extern "C" Stream graft_runtime_stream();
// At a multiple of 256; null when there is no room.
extern "C" void* graft_runtime_allocate(std::size_t bytes);
extern "C" void graft_runtime_release(void* memory);
// From here on in the stream's order, `bytes` of a block are in use, 0: none. The simulator faults on accesses beyond them.
extern "C" void graft_runtime_use(void* memory, std::size_t bytes);
// Begins to move what the host has written to the device's memory, which the host then does not hold.
extern "C" void graft_runtime_prefetch(const void* memory, std::size_t bytes);
// Of what a launch or a product answered.
extern "C" const char* graft_runtime_error_text(int error);
// Waits for everything launched. The text: a kernel failed, now or before.
extern "C" const char* graft_runtime_synchronize();

}  // namespace graft::cuda
