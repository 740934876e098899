// Warps that a multiprocessor holds, as a share of the most it can hold, for scripts/check-cuda: reads lines "arch registers
// static_shared dynamic_shared threads", writes one number each. NVIDIA's calculator, no driver.
#include <cuda_occupancy.h>

#include <cstdio>
#include <map>

struct Multiprocessor {
  int threads, blocks;
  std::size_t shared, shared_of_block;
};

// CUDA C++ Programming Guide 13.0, table "Technical specifications per compute capability".
const std::map<int, Multiprocessor> kMultiprocessors = {
    {75, {1024, 16, 64 << 10, 64 << 10}},   {80, {2048, 32, 164 << 10, 163 << 10}}, {86, {1536, 16, 100 << 10, 99 << 10}},
    {89, {1536, 24, 100 << 10, 99 << 10}},  {90, {2048, 32, 228 << 10, 227 << 10}}, {100, {2048, 32, 228 << 10, 227 << 10}},
    {120, {1536, 24, 100 << 10, 99 << 10}},
};

int main() {
  int arch = 0, registers = 0, threads = 0;
  std::size_t fixed = 0, dynamic = 0;
  while (std::scanf("%d %d %zu %zu %d", &arch, &registers, &fixed, &dynamic, &threads) == 5) {
    const Multiprocessor& m = kMultiprocessors.at(arch);
    cudaOccDeviceProp device;
    device.computeMajor = arch / 10;
    device.computeMinor = arch % 10;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = m.threads;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 << 10;
    device.sharedMemPerMultiprocessor = m.shared;
    device.numSms = 1;
    device.sharedMemPerBlockOptin = m.shared_of_block;
    device.reservedSharedMemPerBlock = arch >= 80 ? 1024 : 0;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = threads;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = fixed;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = dynamic;
    kernel.numBlockBarriers = 1;
    const cudaOccDeviceState state;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, dynamic) != CUDA_OCC_SUCCESS)
      return 1;
    std::printf("%.4f\n", static_cast<double>(result.activeBlocksPerMultiprocessor) * threads / m.threads);
  }
}
