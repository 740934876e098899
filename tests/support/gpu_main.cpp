// kernels_gpu_test: the tests of kernels/**/*_simt_test.cpp on a real GPU. What kernels/simt/simt.h promises them is kept with
// managed memory; what only the simulator can see is not: races, bounds, dropped barriers, and bytes (tests tagged [traffic] are
// left out). Exit code 77 where there is no GPU.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "kernels/simt/simt.h"
#define CATCH_CONFIG_RUNNER
#include "tests/support/catch.h"

namespace graft::simt {

constexpr std::size_t kFilled = 64 << 20;  // larger buffers are address space: rows far apart

Options& options() {
  static Options all;
  return all;
}
std::vector<SyncPoint> take_sync_points() { return {}; }
void* allocate(std::size_t bytes, std::size_t) {
  void* memory = nullptr;
  if (cudaMallocManaged(&memory, bytes + 1, cudaMemAttachGlobal) != cudaSuccess) throw std::bad_alloc();
  if (bytes <= kFilled) std::memset(memory, 0xff, bytes);
  return memory;
}
void release(void* memory) { cudaFree(memory); }
Traffic take_traffic(const void*) { throw Fault("a GPU does not count bytes"); }
int finish() { return cudaDeviceSynchronize(); }

}  // namespace graft::simt

int main(int argc, char** argv) {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::printf("no GPU: %s\n", error == cudaSuccess ? "the driver lists none" : cudaGetErrorString(error));
    return 77;
  }
  cudaDeviceProp device{};
  cudaGetDeviceProperties(&device, 0);
  std::printf("%s, sm_%d%d\n", device.name, device.major, device.minor);
  Catch::Session session;
  session.configData().testsOrTags = {"~[traffic]"};
  return session.run(argc, argv);
}
