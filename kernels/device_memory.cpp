#include "kernels/device_memory.h"

#include <c10/core/Allocator.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "core/error.h"
#include "core/progress.h"
#include "kernels/device.h"
#include "kernels/launchers.h"

namespace graft::kernels {
namespace {

constexpr std::size_t kLeast = 512;

// Never destroyed: tensors of static lifetime give their memory back.
DeviceMemory& memory() {
  static auto& one = *new DeviceMemory(launchers());
  return one;
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* block = bytes == 0 ? nullptr : memory().acquire(bytes);
    return {block, block, &give_back, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    wait_for_device();
    default_copy_data(to, from, bytes);
  }

 private:
  static void give_back(void* block) {
    if (block != nullptr) memory().release(block);
  }
};

}  // namespace

DeviceMemory::DeviceMemory(const Launchers& library) : library_(library) {
  cuda::RuntimeDevice device{};
  if (const char* why = library.open(&device)) throw MachineError(why);
  room_ = device.free_bytes;
}

std::size_t DeviceMemory::rounded(std::size_t bytes) {
  const std::size_t step = std::max(kLeast, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

void* DeviceMemory::acquire(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::size_t size = rounded(bytes);
  std::vector<void*>& free = free_[size];
  const bool fits = used_ + bytes <= room_;
  void* block = nullptr;
  if (fits && !free.empty()) {
    block = free.back();
    free.pop_back();
  } else {
    if (fits) give_back(size), block = library_.allocate(size);
    if (block == nullptr)
      throw MachineError(cat("the device has no room for ", human_bytes(static_cast<double>(bytes)),
                             " more; lower train.micro_rows or train.length, or set train.recompute: layers"));
    held_ += size;
  }
  blocks_[block] = {size, bytes};
  used_ += bytes;
  library_.use(block, bytes);
  return block;
}

void DeviceMemory::release(void* block) {
  const std::lock_guard lock(mutex_);
  library_.use(block, 0);
  Block& known = blocks_.at(block);
  used_ -= std::exchange(known.bytes, 0);
  free_[known.size].push_back(block);
}

void DeviceMemory::give_back(std::size_t wanted) {
  for (auto at = free_.rbegin(); at != free_.rend(); ++at) {
    for (auto& [size, blocks] = *at; !blocks.empty() && held_ + wanted > room_; blocks.pop_back()) {
      library_.release(blocks.back());
      blocks_.erase(blocks.back());
      held_ -= size;
    }
  }
}

void prefetch(const at::Tensor& tensor) {
  if (device() != Device::cpu) launchers().prefetch(tensor.const_data_ptr(), tensor.nbytes());
}

void use_device_memory(bool on) {
  static c10::Allocator* const host = c10::GetAllocator(c10::DeviceType::CPU);
  static auto& device = *new Allocator;
  c10::SetAllocator(c10::DeviceType::CPU, on ? &device : host, 1);
}

}  // namespace graft::kernels
