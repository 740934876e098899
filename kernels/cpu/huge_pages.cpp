#include "kernels/cpu/huge_pages.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <mutex>

namespace graft::kernels::cpu {
namespace {

constexpr std::size_t kHuge = 2 << 20;
constexpr std::uint8_t kPriority = 1;  // as kernels/device_memory.cpp's: each takes the other's place

// LibTorch's own allocator can ask too (THP_MEM_ALLOC_ENABLE), but for each tensor, with a system call, and puts all tensors at
// the same distance from the start of a page, where they compete for the same lines of the caches: slower than without. Here the
// heap is asked for, once for each piece that it grows by.
class HeapInHugePages : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes < kHuge) return wrapped(c10::alloc_cpu(bytes));
    const std::lock_guard lock(mutex_);
    advised_ = std::min(advised_, end_of_heap());  // what the heap gave back is asked for again when it returns
    void* const data = c10::alloc_cpu(bytes);
    advise();
    return wrapped(data);
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static c10::DataPtr wrapped(void* data) { return {data, data, &c10::free_cpu, c10::Device(c10::DeviceType::CPU)}; }
  void advise() {
    const std::uintptr_t end = end_of_heap();
    if (end <= advised_) return;
    madvise(reinterpret_cast<void*>(advised_), end - advised_, MADV_HUGEPAGE);
    advised_ = end;
  }

  static std::uintptr_t end_of_heap() { return reinterpret_cast<std::uintptr_t>(sbrk(0)) / kHuge * kHuge; }

  std::mutex mutex_;
  std::uintptr_t advised_ = end_of_heap();
};

}  // namespace

void use_huge_pages() {
  static HeapInHugePages allocator;
  static const bool set = (c10::SetCPUAllocator(&allocator, kPriority), true);
  static_cast<void>(set);
}

}  // namespace graft::kernels::cpu
