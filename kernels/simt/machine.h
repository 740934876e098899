// What the parts of the simulator share: the block that runs, its threads, and the clock that orders their accesses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/simt.h"

namespace graft::simt {

constexpr std::size_t kWarp = 32, kMaxThreads = 1024, kStackBytes = 128 << 10;
constexpr std::size_t kStaticSharedBytes = 48 << 10;  // what every GPU grants a kernel that does not ask for more
constexpr std::size_t kSharedBytes = 99 << 10;        // and one that does, from sm_80 on

enum class Wait { nothing, warp, barrier, exited };

// An operation of a warp: called once, when all its lanes are there, with what each of them brought.
using WarpOperation = void (*)(void* const* lanes, unsigned mask);

struct Copy {  // cp.async
  void* to;
  const void* from;
  std::size_t bytes;  // the rest of 16 becomes zero
};

struct Thread {
  void* stack_pointer = nullptr;
  Wait wait = Wait::nothing;
  SyncPoint at;  // of the barrier
  unsigned mask = 0;
  WarpOperation operation = nullptr;
  void* argument = nullptr;
  std::uint16_t warp_clock = 0;            // raised by __syncwarp
  std::vector<std::vector<Copy>> pending;  // groups of copies, the last still open
};

struct SharedArray {
  const void* key;
  std::size_t begin, bytes;
};

struct Machine {
  bool running = false;
  std::vector<Thread> threads;
  std::size_t current = 0;
  char* stacks = nullptr;
  void* scheduler = nullptr;  // its stack pointer
  void (*call)(const void*) = nullptr;
  const void* closure = nullptr;
  std::string fault;

  // Clock of block barriers, over all launches: what was stamped before `block_start` by this launch was done by another block.
  std::uint32_t clock = 1, launch_start = 1, block_start = 1;

  std::size_t dynamic_bytes = 0;  // granted by the launch
  char* shared = nullptr;
  std::vector<SharedArray> arrays;
};
Machine& machine();

[[noreturn]] void fail(const std::string& what);  // ends the launch; called by a thread or the scheduler

// shadow.cpp
void access(const void* address, std::size_t bytes, bool write, const void* caller);
bool in_buffer(const void* address, std::size_t bytes);
// What a block that was allocated counts as from here on; beyond it nothing may be touched. 0 fills it with NaN.
void set_bytes(void* memory, std::size_t bytes);

}  // namespace graft::simt
