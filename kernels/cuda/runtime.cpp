// runtime.h of CUDA, for libgraft_cuda.so. Managed memory: LibTorch's CPU build reads and writes the same addresses as the
// kernels do, and pages move to whoever touches them.
#include "kernels/cuda/runtime.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "kernels/gemm/gemm.h"

namespace graft::cuda {
namespace {

constexpr int kDevice = 0;

cudaStream_t stream = nullptr;

const char* text_of(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

cudaError_t prefer_device(void* memory, std::size_t bytes) {
#if CUDART_VERSION >= 13000
  return cudaMemAdvise(memory, bytes, cudaMemAdviseSetPreferredLocation, {cudaMemLocationTypeDevice, kDevice});
#else
  return cudaMemAdvise(memory, bytes, cudaMemAdviseSetPreferredLocation, kDevice);
#endif
}

}  // namespace

extern "C" const char* graft_runtime_open(RuntimeDevice* device) {
  int count = 0;
  if (const char* why = text_of(cudaGetDeviceCount(&count))) return why;
  if (count == 0) return "the driver lists no GPU";
  cudaDeviceProp found{};
  if (const char* why = text_of(cudaGetDeviceProperties(&found, kDevice))) return why;
  *device = {};
  std::memcpy(device->name, found.name, std::min(sizeof device->name, sizeof found.name) - 1);
  device->major = found.major;
  device->minor = found.minor;
  if (const char* why = text_of(cudaSetDevice(kDevice))) return why;
  std::size_t free = 0, total = 0;
  if (const char* why = text_of(cudaMemGetInfo(&free, &total))) return why;
  device->free_bytes = free;
  device->total_bytes = total;
  if (found.concurrentManagedAccess == 0) return "the GPU does not share managed memory with the running host (Linux alone does)";
  if (stream == nullptr) return text_of(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return nullptr;
}

extern "C" Stream graft_runtime_stream() { return stream; }

extern "C" void* graft_runtime_allocate(std::size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) != cudaSuccess) {
    cudaGetLastError();  // no room is an answer, not a fault of the launches to come
    return nullptr;
  }
  if (prefer_device(memory, bytes) != cudaSuccess) cudaGetLastError();  // slower, no more
  return memory;
}

extern "C" void graft_runtime_release(void* memory) { cudaFree(memory); }  // waits for the device

extern "C" void graft_runtime_use(void*, std::size_t) {}

extern "C" void graft_runtime_prefetch(const void* memory, std::size_t bytes) {
#if CUDART_VERSION >= 13000
  const cudaError_t error = cudaMemPrefetchAsync(memory, bytes, {cudaMemLocationTypeDevice, kDevice}, 0, stream);
#else
  const cudaError_t error = cudaMemPrefetchAsync(memory, bytes, kDevice, stream);
#endif
  if (error != cudaSuccess) cudaGetLastError();  // they move when they are read
}

extern "C" const char* graft_runtime_error_text(int error) {
  return error >= kGemmCublasError ? cublasLtGetStatusString(static_cast<cublasStatus_t>(error - kGemmCublasError))
                                   : cudaGetErrorString(static_cast<cudaError_t>(error));
}

extern "C" const char* graft_runtime_synchronize() { return text_of(cudaStreamSynchronize(stream)); }

}  // namespace graft::cuda
