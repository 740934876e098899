// The memory of tensors where kernels run on a device (kernels/device.h): LibTorch's allocator of the CPU is exchanged for one on
// graft_runtime_allocate, so that weights, activations and adapters lie where host and kernels both reach them.
//
// Blocks are kept when tensors give them back, for the next of the same size: sizes are rounded up to one of eight between each
// two powers of two, at least 512 bytes. A block is handed out again without waiting for the kernels that used it: other kernels
// come after them on the one stream, and host code calls wait_for_device. Before the blocks together would outgrow what the
// device had free at first, those that nobody has are given to the driver: it would rather move pages to the host than refuse.
// What is in use never outgrows it: a request that would, or one that the driver refuses, fails with MachineError.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace graft::kernels {

struct Launchers;

class DeviceMemory {
 public:
  explicit DeviceMemory(const Launchers& library);
  void* acquire(std::size_t bytes);  // not 0
  void release(void* memory);
  static std::size_t rounded(std::size_t bytes);

 private:
  struct Block {
    std::size_t size, bytes;  // of memory, and of what was asked for; 0: it is free
  };
  void give_back(std::size_t wanted);  // free blocks, the largest first, until there is room for as much

  const Launchers& library_;
  std::size_t room_, held_ = 0, used_ = 0;  // bytes free when it was made, of all blocks, and of those in use
  std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> free_;  // by size
  std::unordered_map<const void*, Block> blocks_;   // all
};

// Begins to move a tensor that the host has filled to the device, so that the host need not hold a whole model.
void prefetch(const at::Tensor& tensor);

// Tensors from here on are in such memory, or in the host's again. They may outlive the change.
void use_device_memory(bool on);

}  // namespace graft::kernels
