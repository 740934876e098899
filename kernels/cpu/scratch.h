// Memory for a kernel's intermediate values, aligned to cache lines; it grows and is kept, so that a step pays for its pages
// once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace graft::kernels::cpu {

class Scratch {
 public:
  // Uninitialised; valid until the next call.
  template <class T>
  T* get(std::int64_t count) {
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + kLine - 1) / kLine * kLine;
    if (bytes > size_) {
      memory_.reset();
      memory_.reset(std::aligned_alloc(kLine, bytes));
      size_ = memory_ ? bytes : 0;
      if (!memory_) throw std::bad_alloc();
    }
    return static_cast<T*>(memory_.get());
  }

 private:
  static constexpr std::size_t kLine = 64;
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t size_ = 0;
};

}  // namespace graft::kernels::cpu
