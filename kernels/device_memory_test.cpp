#include "kernels/device_memory.h"

#include <set>

#include "core/error.h"
#include "kernels/launchers.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

// A library that hands out numbers and remembers.
struct Driver {
  std::uintptr_t next = 0;
  bool full = false;  // until then it never refuses, as with managed memory
  std::set<void*> blocks;
  std::vector<std::pair<void*, std::size_t>> used;
};
Driver driver;

Launchers library() {
  driver = {};
  Launchers l{};
  l.open = [](cuda::RuntimeDevice* device) -> const char* {
    *device = {.name = "", .major = 9, .minor = 0, .total_bytes = 2 << 20, .free_bytes = 1 << 20};
    return nullptr;
  };
  l.allocate = [](std::size_t) -> void* {
    if (driver.full) return nullptr;
    void* block = reinterpret_cast<void*>(driver.next += 4096);
    driver.blocks.insert(block);
    return block;
  };
  l.release = [](void* block) { driver.blocks.erase(block); };
  l.use = [](void* block, std::size_t bytes) { driver.used.emplace_back(block, bytes); };
  return l;
}

}  // namespace

TEST_CASE("sizes of device memory are rounded up by an eighth at most", "[device]") {
  CHECK(DeviceMemory::rounded(1) == 512);
  CHECK(DeviceMemory::rounded(512) == 512);
  CHECK(DeviceMemory::rounded(513) == 1024);
  CHECK(DeviceMemory::rounded(1 << 20) == 1 << 20);
  std::set<std::size_t> sizes;
  for (std::size_t bytes = 1 << 20; bytes < 1 << 21; bytes += 777) {
    const std::size_t size = DeviceMemory::rounded(bytes);
    CHECK((size >= bytes && size <= bytes + bytes / 8));
    sizes.insert(size);
  }
  CHECK(sizes.size() == 9);
}

TEST_CASE("device memory is handed out again to the next of its size", "[device]") {
  const Launchers l = library();
  DeviceMemory memory(l);
  void *a = memory.acquire(1000), *b = memory.acquire(1000);
  CHECK(a != b);
  memory.release(a);
  CHECK(memory.acquire(2000) != a);
  CHECK(memory.acquire(600) == a);
  CHECK(driver.blocks.size() == 3);
  CHECK(driver.used ==
        std::vector<std::pair<void*, std::size_t>>{{a, 1000}, {b, 1000}, {a, 0}, {driver.used[3].first, 2000}, {a, 600}});
}

TEST_CASE("device memory that nobody has is given back before the blocks outgrow the device", "[device]") {
  const Launchers l = library();
  DeviceMemory memory(l);
  void *a = memory.acquire(512 << 10), *b = memory.acquire(256 << 10);
  memory.release(a);
  void* c = memory.acquire(256 << 10);  // 1 MiB with it
  CHECK((driver.blocks == std::set<void*>{a, b, c}));
  void* d = memory.acquire(512);
  CHECK((driver.blocks == std::set<void*>{b, c, d}));
  memory.release(b);
  memory.release(d);
  void* e = memory.acquire(600 << 10);  // the largest of what is free is enough
  CHECK((driver.blocks == std::set<void*>{c, d, e}));
  CHECK(memory.acquire(512) == d);
  driver.used.clear();  // managed memory would take it, and move pages to and fro
  CHECK(graft::testing::message_of([&] { memory.acquire(256 << 10); }) ==
        "the device has no room for 256 KiB more; lower train.micro_rows or train.length, or set train.recompute: layers");
  CHECK(driver.used.empty());
}

TEST_CASE("device memory in use counts as it was asked for, in blocks that are used again too", "[device]") {
  const Launchers l = library();
  DeviceMemory memory(l);
  memory.acquire(600 << 10);
  void* block = memory.acquire(420 << 10);  // rounded up, the two are more than 1 MiB
  memory.release(block);
  REQUIRE(DeviceMemory::rounded(440 << 10) == DeviceMemory::rounded(420 << 10));
  CHECK(graft::testing::message_of([&] { memory.acquire(440 << 10); }).starts_with("the device has no room for 440 KiB more"));
  CHECK(memory.acquire(424 << 10) == block);
}

TEST_CASE("device memory that the driver refuses is an error with what to do", "[device]") {
  const Launchers l = library();
  DeviceMemory memory(l);
  driver.full = true;
  try {
    memory.acquire(600 << 10);
    FAIL("there is no room");
  } catch (const MachineError& error) {
    CHECK(std::string(error.what()) ==
          "the device has no room for 600 KiB more; lower train.micro_rows or train.length, or set train.recompute: layers");
  }
}

}  // namespace graft::kernels
