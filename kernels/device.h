// Where the ops of this folder compute: one setting of the process, made once before any of them is called and before anything
// is allocated (cli/engine/session.h).
//
//   cpu    this processor
//   cuda   the first GPU, through libgraft_cuda.so; written and tested without one (docs/decisions/0021-cuda-training.md)
//   simt   the CUDA kernels' own source, compiled by g++ and run on this processor (kernels/simt): every access checked,
//          thousands of times slower; for tests. The same host code as cuda's, over libgraft_simt.so.
//
// The libraries lie beside the program and are opened when the setting is made (kernels/launchers.h); from then on tensors are in
// memory that host and device share (kernels/device_memory.h). Ops launch and return. Host code that reads or writes tensors
// calls wait_for_device first, also before it fills a new one: its memory may have been that of a tensor which a kernel still
// reads. Decoder's functions and the optimizer's return with nothing under way.
//
// On the processor also then: decoding's attention, heads beyond kAttentionAnyHead, the router of experts, rounded rows.
#pragma once

#include <cstdint>
#include <string>

namespace graft::kernels {

enum class Device { cpu, simt, cuda };
const char* device_name(Device device);  // as in the config

struct Gpu {
  std::string fault = {};  // why it cannot be used; empty: it can
  std::string name = {};
  int major = 0, minor = 0;           // compute capability
  std::uint64_t total = 0, free = 0;  // bytes of its memory
};

struct DeviceSupport {
  std::string driver;  // version of the NVIDIA driver; empty: none
  bool cuda_library = false, simt_library = false;
  Gpu gpu;  // where it was asked for and cuda_library is there
};
// With the libraries that lie beside the program. ask_gpu: opens the CUDA library and the GPU, which takes a second.
DeviceSupport device_support(const std::string& driver, bool ask_gpu);

// `wanted` is auto, cpu, cuda or simt. MachineError: what it takes is not there.
Device choose_device(const std::string& wanted, const DeviceSupport& support);

// MachineError: the library cannot be opened or is of another version, or the process has used another one already.
void set_device(Device device);
Device device();

// Bytes that tensors may take of what is free now: something is left to the driver. 0 where tensors are in the host's memory.
std::uint64_t free_device_memory();
// MachineError: a kernel failed.
void wait_for_device();
bool device_busy();  // something was launched and not waited for

}  // namespace graft::kernels
