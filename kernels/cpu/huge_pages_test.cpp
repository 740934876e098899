#include "kernels/cpu/huge_pages.h"

#include <ATen/ATen.h>
#include <malloc.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

#include "tests/support/catch.h"

namespace graft::kernels::cpu {
namespace {

// Flags of the mapping that holds this address, as /proc/self/smaps names them.
std::string flags_of(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2)
      here = begin <= reinterpret_cast<std::uintptr_t>(address) && reinterpret_cast<std::uintptr_t>(address) < end;
    else if (here && line.rfind("VmFlags:", 0) == 0)
      return line + ' ';
  }
  return {};
}

}  // namespace

TEST_CASE("what the heap grows by for tensors asks for huge pages", "[cpu]") {
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) {
    WARN("a system without huge pages: nothing is asked for");
    return;
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as cli/engine.cpp
  use_huge_pages();
  for (int i = 0; i < 2; ++i) {  // the second time the heap has shrunk in between
    malloc_trim(0);
    const char* const before = static_cast<const char*>(sbrk(0));
    const at::Tensor x = at::empty({800 << 20}, at::kByte);  // more than earlier tests have left free; most is never touched
    if (static_cast<const char*>(sbrk(0)) - before < 16 << 20) {
      WARN("memory that is not the heap's (a sanitizer's, or the heap cannot grow): nothing is asked for");
      return;
    }
    const at::Tensor part = x.narrow(0, x.numel() - (8 << 20), 4 << 20).fill_(3), copy = part.clone();
    CHECK(at::equal(part, copy));
    CHECK(flags_of(part.const_data_ptr()).find(" hg ") != std::string::npos);
  }
}

}  // namespace graft::kernels::cpu
