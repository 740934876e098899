// What every access of a kernel is checked against: bounds, and for each granule of memory who wrote and who read it last.
#include <pthread.h>
#include <sys/mman.h>

#include <cstring>
#include <list>
#include <new>

#include "kernels/simt/device.h"
#include "kernels/simt/machine.h"

// The image of the program or library that holds the kernels: constants, tables.
extern "C" [[gnu::visibility("hidden")]] const char __ehdr_start, _end;

namespace graft::simt {
namespace {

// Readers of one granule since it was last written; more than one are known by how far apart they are.
constexpr std::uint16_t kManyLanes = 0x8000, kManyWarps = 0x4000, kManyBlocks = 0x2000, kThread = 0x1fff;

constexpr std::size_t kPage = 4096;

struct Record {
  std::uint32_t clock = 0;
  std::uint16_t thread = 0, warp_clock = 0;
};
struct Cell {
  Record written, read;
};

struct Region {
  char* begin;
  std::size_t bytes, granule, mapped;
  Cell* cells;  // zero pages until touched
  std::size_t cells_mapped;
  Traffic traffic;
};

std::list<Region>& regions() {
  static std::list<Region> all;
  return all;
}

void* map(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

Region& add_region(char* begin, std::size_t bytes, std::size_t granule) {
  Region region{};
  region.begin = begin;
  region.bytes = bytes;
  region.granule = granule;
  region.cells_mapped = ((bytes / granule + 1) * sizeof(Cell) / kPage + 1) * kPage;
  region.cells = static_cast<Cell*>(map(region.cells_mapped));
  return regions().emplace_front(region);
}

Region* region_of(const char* address) {
  std::list<Region>& all = regions();
  for (auto it = all.begin(); it != all.end(); ++it) {
    if (address < it->begin || address >= it->begin + it->bytes) continue;
    all.splice(all.begin(), all, it);  // found sooner next time
    return &all.front();
  }
  return nullptr;
}

bool on_host_stack(const char* address) {
  struct Bounds {
    char* begin = nullptr;
    std::size_t bytes = 0;
    Bounds() {
      pthread_attr_t attributes;
      pthread_getattr_np(pthread_self(), &attributes);
      void* base = nullptr;
      pthread_attr_getstack(&attributes, &base, &bytes);
      pthread_attr_destroy(&attributes);
      begin = static_cast<char*>(base);
    }
  };
  static const Bounds bounds;
  return address >= bounds.begin && address < bounds.begin + bounds.bytes;
}

std::string hex(std::uintptr_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%zx", value);
  return text;
}

// For addr2line -e simt_test (or libgraft_simt.so).
std::string from(const void* caller) {
  return " from " + hex(static_cast<std::uintptr_t>(static_cast<const char*>(caller) - &__ehdr_start));
}

// Did `earlier` happen before now, for the current thread? What came before `since`, the start of the launch or, for shared
// memory, of the block, did.
bool ordered(const Record& earlier, std::uint32_t since, const Machine& m) {
  const std::uint16_t thread = earlier.thread & kThread;
  if (earlier.clock < since) return true;
  if (earlier.thread & kManyBlocks || earlier.clock < m.block_start) return false;
  if (earlier.clock < m.clock) return true;
  if (earlier.thread & kManyWarps || thread / kWarp != m.current / kWarp) return false;
  if (!(earlier.thread & kManyLanes) && thread == m.current) return true;
  return earlier.warp_clock < m.threads[m.current].warp_clock;
}

void note_read(Record& read, std::uint32_t since, const Machine& m) {
  const Record now{m.clock, static_cast<std::uint16_t>(m.current), m.threads[m.current].warp_clock};
  const Record before = std::exchange(read, now);
  if (before.clock < since) return;
  if (before.thread & kManyBlocks || before.clock < m.block_start) {
    read.thread |= kManyBlocks;
  } else if (before.clock == m.clock) {
    const std::uint16_t thread = before.thread & kThread;
    if (before.thread & kManyWarps || thread / kWarp != m.current / kWarp) {
      read.thread |= kManyWarps;
    } else if (before.warp_clock == now.warp_clock && (before.thread & kManyLanes || thread != m.current)) {
      read.thread |= kManyLanes;
    }
  }
}

void check(Cell& cell, bool write, bool shared, const void* caller) {
  const Machine& m = machine();
  const std::uint32_t since = shared ? m.block_start : m.launch_start;
  const auto race = [&](const char* what, const Record& other) {
    fail(std::string(what) + (shared ? " of shared memory" : " of global memory") + " races with thread " +
         std::to_string(other.thread & kThread) + (other.clock < m.block_start ? " of another block" : "") + from(caller));
  };
  if (shared && !write && cell.written.clock < m.block_start) fail("shared memory is read but was never written" + from(caller));
  if (!ordered(cell.written, since, m)) race(write ? "a write" : "a read", cell.written);
  if (write) {
    if (!ordered(cell.read, since, m)) race("a write", cell.read);
    cell.written = {m.clock, static_cast<std::uint16_t>(m.current), m.threads[m.current].warp_clock};
  } else {
    note_read(cell.read, since, m);
  }
}

void check_shared(const char* begin, std::size_t bytes, const void* caller) {
  const Machine& m = machine();
  const auto offset = static_cast<std::size_t>(begin - m.shared);
  for (const SharedArray& array : m.arrays)
    if (offset >= array.begin && offset + bytes <= array.begin + array.bytes) return;
  fail("an access outside of every shared array" + from(caller));
}

Region* bounded(const char* begin, std::size_t bytes, bool write, const void* caller) {
  Region* region = region_of(begin);
  if (region == nullptr || begin + bytes > region->begin + region->bytes)
    fail(std::string(write ? "a write" : "a read") + " of " + std::to_string(bytes) + " bytes outside of every buffer" +
         from(caller));
  (write ? region->traffic.written : region->traffic.read) += bytes;
  return region;
}

}  // namespace

void access(const void* address, std::size_t bytes, bool write, const void* caller) {
  Machine& m = machine();
  if (!m.running) return;
  const auto* begin = static_cast<const char*>(address);
  if (begin >= m.stacks && begin < m.stacks + kMaxThreads * kStackBytes) return;
  if (!write && ((begin >= &__ehdr_start && begin < &_end) || on_host_stack(begin))) return;
  Region* region = bounded(begin, bytes, write, caller);
  const bool shared = region->begin == m.shared;
  if (shared) check_shared(begin, bytes, caller);
  const auto offset = static_cast<std::size_t>(begin - region->begin);
  for (std::size_t i = offset / region->granule; i <= (offset + bytes - 1) / region->granule; ++i)
    check(region->cells[i], write, shared, caller);
}

void atomic_access(const void* address, std::size_t bytes) {
  check_aligned(address, bytes);
  const auto* begin = static_cast<const char*>(address);
  const void* caller = __builtin_return_address(0);
  Region* region = bounded(begin, bytes, true, caller);
  if (region->begin == machine().shared) check_shared(begin, bytes, caller);
}

void check_aligned(const void* address, std::size_t alignment) {
  if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0)
    fail("an address that is not a multiple of " + std::to_string(alignment) + from(__builtin_return_address(0)));
}

uint4 load16(const void* address) {
  check_aligned(address, 16);
  access(address, 16, false, __builtin_return_address(0));
  uint4 value;
  std::memcpy(&value, address, 16);
  return value;
}

void store16(void* address, uint4 value) {
  check_aligned(address, 16);
  access(address, 16, true, __builtin_return_address(0));
  std::memcpy(address, &value, 16);
}

void* allocate(std::size_t bytes, std::size_t granule) {
  const std::size_t mapped = (bytes / kPage + 1) * kPage;
  auto* begin = static_cast<char*>(map(mapped));
  if (bytes <= 256u << 20) std::memset(begin, 0xff, mapped);  // larger ones are address space more than memory
  add_region(begin, bytes, granule).mapped = mapped;
  return begin;
}

void release(void* memory) {
  std::list<Region>& all = regions();
  for (auto it = all.begin(); it != all.end(); ++it) {
    if (it->begin != memory) continue;
    munmap(it->begin, it->mapped);
    munmap(it->cells, it->cells_mapped);
    all.erase(it);
    return;
  }
}

bool in_buffer(const void* address, std::size_t bytes) {
  const auto* begin = static_cast<const char*>(address);
  const Region* region = region_of(begin);
  return region != nullptr && begin + bytes <= region->begin + region->bytes;
}

void set_bytes(void* memory, std::size_t bytes) {
  for (Region& region : regions()) {
    if (region.begin != memory) continue;
    if (bytes == 0) std::memset(region.begin, 0xff, region.bytes);
    region.bytes = bytes;
    return;
  }
}

Traffic take_traffic(const void* memory) {
  for (Region& region : regions())
    if (region.begin == memory) return std::exchange(region.traffic, {});
  return {};
}

}  // namespace graft::simt

// What g++ -fsanitize=thread calls before each access.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
#define GRAFT_HOOKS(bytes)                                                                                \
  void __tsan_read##bytes(void* p) { graft::simt::access(p, bytes, false, __builtin_return_address(0)); } \
  void __tsan_write##bytes(void* p) { graft::simt::access(p, bytes, true, __builtin_return_address(0)); }
#define GRAFT_UNALIGNED_HOOKS(bytes)                                                                                \
  void __tsan_unaligned_read##bytes(void* p) { graft::simt::access(p, bytes, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##bytes(void* p) { graft::simt::access(p, bytes, true, __builtin_return_address(0)); }
GRAFT_HOOKS(1)
GRAFT_HOOKS(2)
GRAFT_HOOKS(4)
GRAFT_HOOKS(8)
GRAFT_HOOKS(16)
GRAFT_UNALIGNED_HOOKS(2)
GRAFT_UNALIGNED_HOOKS(4)
GRAFT_UNALIGNED_HOOKS(8)
GRAFT_UNALIGNED_HOOKS(16)
void __tsan_read_range(void* p, std::size_t bytes) { graft::simt::access(p, bytes, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, std::size_t bytes) { graft::simt::access(p, bytes, true, __builtin_return_address(0)); }
}
