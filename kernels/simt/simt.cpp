#include "kernels/simt/simt.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>

#include "kernels/simt/device.h"
#include "kernels/simt/machine.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Saves the registers that a function must keep on the stack of the caller and goes on where `to` stopped.
extern "C" void graft_simt_switch(void** from, void* to);
asm(R"(
.text
.type graft_simt_switch,@function
graft_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size graft_simt_switch,.-graft_simt_switch
)");

namespace graft::simt {
namespace {

std::vector<SyncPoint>& seen() {
  static std::vector<SyncPoint> points;
  return points;
}

std::string block_text() {
  return "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ")";
}

void to_scheduler() {
  Machine& m = machine();
  m.running = false;
  graft_simt_switch(&m.threads[m.current].stack_pointer, m.scheduler);
}

void entry() {
  Machine& m = machine();
  m.call(m.closure);
  Thread& self = m.threads[m.current];
  if (self.pending.size() > 1 || (!self.pending.empty() && !self.pending.back().empty())) fail("copies that nobody waited for");
  self.wait = Wait::exited;
  to_scheduler();
  std::abort();  // a thread that exited is not resumed
}

void resume(std::size_t id) {
  Machine& m = machine();
  m.current = id;
  const auto i = static_cast<unsigned>(id);
  threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
  m.running = true;
  graft_simt_switch(&m.scheduler, m.threads[id].stack_pointer);
  if (!m.fault.empty()) throw Fault(m.fault);
}

// The stack of a thread before its first step: `entry` as the address to return to, aligned as a call would leave it.
void prepare(std::size_t id) {
  Machine& m = machine();
  auto** top = reinterpret_cast<void**>(m.stacks + (id + 1) * kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  Thread& thread = m.threads[id];
  thread.stack_pointer = top;
  thread.wait = Wait::nothing;
  thread.warp_clock = 0;
  thread.pending.clear();
}

// All lanes of the warp wait or are gone. Completes the operation of the lanes in `lane`'s mask.
void complete(std::size_t first, std::size_t end, std::size_t lane) {
  Machine& m = machine();
  const Thread& asking = m.threads[first + lane];
  void* arguments[kWarp] = {};
  for (std::size_t i = 0; i < kWarp; ++i) {
    if (!(asking.mask >> i & 1)) continue;
    const std::string who = "lane " + std::to_string(i) + " of warp " + std::to_string(first / kWarp);
    if (first + i >= end) fail(who + " is in a mask but does not exist");
    const Thread& other = m.threads[first + i];
    if (other.wait == Wait::exited) fail(who + " has exited but lane " + std::to_string(lane) + " waits for it");
    if (other.wait == Wait::barrier) fail(who + " waits at a barrier but lane " + std::to_string(lane) + " waits for it");
    if (other.mask != asking.mask || other.operation != asking.operation) fail(who + " waits in another operation of the warp");
    arguments[i] = other.argument;
  }
  const unsigned mask = asking.mask;
  asking.operation(arguments, mask);
  for (std::size_t i = 0; i < kWarp; ++i)
    if (mask >> i & 1) m.threads[first + i].wait = Wait::nothing;
}

// Runs a warp until each of its lanes is at a barrier of the block or gone.
void run_warp(std::size_t first, std::size_t end, std::mt19937_64& random) {
  Machine& m = machine();
  for (bool moved = true; moved;) {
    moved = false;
    const std::uint64_t draw = random();  // an odd stride visits the lanes in one of 512 orders
    for (std::size_t i = 0; i < kWarp; ++i) {
      const std::size_t id = first + ((draw + i * (draw >> 8 | 1)) & (kWarp - 1));
      if (id >= end || m.threads[id].wait != Wait::nothing) continue;
      resume(id);
      moved = true;
    }
    for (std::size_t id = first; id < end; ++id) {
      if (m.threads[id].wait != Wait::warp) continue;
      complete(first, end, id - first);
      moved = true;
    }
  }
}

void run_block(std::size_t count, std::mt19937_64& random) {
  Machine& m = machine();
  m.block_start = ++m.clock;
  m.arrays.clear();
  for (std::size_t i = 0; i < count; ++i) prepare(i);
  std::vector<std::size_t> warps;
  for (std::size_t first = 0; first < count; first += kWarp) warps.push_back(first);
  for (;;) {
    std::shuffle(warps.begin(), warps.end(), random);
    for (const std::size_t first : warps) run_warp(first, std::min(first + kWarp, count), random);
    const Thread& one = m.threads[0];
    for (std::size_t i = 1; i < count; ++i) {
      const Thread& other = m.threads[i];
      if (one.wait != other.wait) fail("a barrier is not reached by all threads: " + std::to_string(i) + " or 0 has exited");
      if (one.wait == Wait::barrier && one.at != other.at)
        fail("threads 0 and " + std::to_string(i) + " wait at different barriers");
    }
    if (one.wait == Wait::exited) return;
    ++m.clock;
    for (std::size_t i = 0; i < count; ++i) m.threads[i].wait = Wait::nothing;
  }
}

bool dropped(const char* file, int line) {
  const SyncPoint point{file, line};
  if (std::find(seen().begin(), seen().end(), point) == seen().end()) seen().push_back(point);
  return point == options().dropped;
}

}  // namespace

Options& options() {
  static Options value;
  return value;
}

std::vector<SyncPoint> take_sync_points() { return std::exchange(seen(), {}); }

Machine& machine() {
  static Machine value;
  return value;
}

void fail(const std::string& what) {
  Machine& m = machine();
  const std::string where = " (" + block_text() + ", thread " + std::to_string(m.current) + ")";
  if (!m.running) throw Fault(what + " (" + block_text() + ")");
  m.fault = what + where;
  to_scheduler();
  std::abort();
}

void run(const Launch& launch, void (*call)(const void*), const void* closure) {
  Machine& m = machine();
  log_launch(launch);
  const std::size_t count = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
  gridDim = launch.grid;
  blockDim = launch.block;
  const std::size_t blocks = std::size_t{gridDim.x} * gridDim.y * gridDim.z;
  if (count == 0 || count > kMaxThreads || blocks == 0 || gridDim.x > 0x7fffffffu || gridDim.y > 65535 || gridDim.z > 65535)
    throw Fault(std::string(launch.name) + ": no GPU takes this grid and block");
  if (m.stacks == nullptr) {
    void* memory =
        mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    m.stacks = static_cast<char*>(memory);
    m.shared = static_cast<char*>(allocate(kSharedBytes + 4096, 2));
  }
  m.threads.resize(kMaxThreads);
  m.dynamic_bytes = launch.shared_bytes;
  m.call = call;
  m.closure = closure;
  m.fault.clear();
  m.launch_start = m.clock + 1;
  std::mt19937_64 random(options().order);
  std::vector<std::uint32_t> order(blocks);
  for (std::size_t i = 0; i < blocks; ++i) order[i] = static_cast<std::uint32_t>(i);
  std::shuffle(order.begin(), order.end(), random);
  try {
    for (const std::uint32_t i : order) {
      blockIdx = {i % gridDim.x, i / gridDim.x % gridDim.y, i / (gridDim.x * gridDim.y)};
      run_block(count, random);
    }
  } catch (const Fault& fault) {
    throw Fault(std::string(launch.name) + ": " + fault.what());
  }
}

int finish() { return 0; }

void barrier(const char* file, int line) {
  if (dropped(file, line)) return;
  Thread& self = machine().threads[machine().current];
  self.at = {file, line};
  self.wait = Wait::barrier;
  to_scheduler();
}

void warp_operation(unsigned mask, WarpOperation operation, void* argument) {
  Thread& self = machine().threads[machine().current];
  if (!(mask >> lane() & 1)) fail("lane " + std::to_string(lane()) + " is not in its own mask");
  self.mask = mask;
  self.operation = operation;
  self.argument = argument;
  self.wait = Wait::warp;
  to_scheduler();
}

void warp_barrier(const char* file, int line, unsigned mask) {
  if (dropped(file, line)) return;
  warp_operation(
      mask, [](void* const*, unsigned) {}, nullptr);
  ++machine().threads[machine().current].warp_clock;
}

unsigned lane() { return static_cast<unsigned>(machine().current % kWarp); }

void* shared_array(const void* key, std::size_t bytes) {
  Machine& m = machine();
  std::size_t end = 64;  // what lies before, between and behind the arrays belongs to nobody
  for (const SharedArray& array : m.arrays) {
    if (array.key == key) return m.shared + array.begin;
    end = array.begin + (array.bytes + 64 + 63) / 64 * 64;
  }
  std::size_t total = bytes;
  for (const SharedArray& array : m.arrays) total += array.bytes;
  if (total - std::min(total, m.dynamic_bytes) > kStaticSharedBytes || total > kSharedBytes) fail("too much shared memory");
  m.arrays.push_back({key, end, bytes});
  std::memset(m.shared + end, 0xff, bytes);
  return m.shared + end;
}

void* dynamic_shared(std::size_t bytes) {
  static const char key = 0;
  const Machine& m = machine();
  if (bytes > m.dynamic_bytes) fail("the launch grants less shared memory than the kernel takes");
  return shared_array(&key, bytes);
}

// The data arrives only at the wait; until then the destination holds NaN, as if the copy were half done.
void copy_async(void* to, const void* from, std::size_t bytes) {
  check_aligned(to, 16);
  Thread& self = machine().threads[machine().current];
  access(to, 16, true, __builtin_return_address(0));
  std::memset(to, 0xff, 16);
  if (self.pending.empty()) self.pending.emplace_back();
  self.pending.back().push_back({to, from, bytes});
}

void copy_async_commit() {
  Thread& self = machine().threads[machine().current];
  if (self.pending.empty()) self.pending.emplace_back();
  self.pending.emplace_back();
}

void copy_async_wait(const char* file, int line, std::size_t groups) {
  if (dropped(file, line)) return;
  Thread& self = machine().threads[machine().current];
  while (self.pending.size() > groups + 1) {
    for (const Copy& copy : self.pending.front()) {
      if (copy.bytes > 0) {
        check_aligned(copy.from, 16);
        access(copy.from, copy.bytes, false, __builtin_return_address(0));
      }
      access(copy.to, 16, true, __builtin_return_address(0));
      std::memset(copy.to, 0, 16);
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
    self.pending.erase(self.pending.begin());
  }
}

float approximate(double exact, std::uint32_t input) {
  const auto rounded = static_cast<float>(exact);
  if (!std::isnormal(rounded)) return rounded;
  std::uint64_t hash = (input ^ options().noise << 32) * 0x9E3779B97F4A7C15u;
  hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(rounded) + static_cast<std::uint32_t>((hash >> 40) % 5) - 2u);
}

void log_launch(const Launch& launch) {
  static const char* path = std::getenv("GRAFT_SIMT_LOG");
  if (path == nullptr) return;
  std::string line = std::string("{\"entry\": \"") + launch.name + "\"";
  const auto add = [&](const char* key, const dim3& d) {
    line +=
        std::string(", \"") + key + "\": [" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + "]";
  };
  add("grid", launch.grid);
  add("block", launch.block);
  line += ", \"shared\": " + std::to_string(launch.shared_bytes) + ", \"arguments\": [";
  for (std::size_t i = 0; i < launch.arguments.size(); ++i) {
    char number[32];
    std::snprintf(number, sizeof number, "%.17g", launch.arguments[i]);
    line += (i ? std::string(", ") : std::string()) + (std::isfinite(launch.arguments[i]) ? number : "0");
  }
  line += "]}\n";
  static std::set<std::string> written;
  if (!written.insert(line).second) return;
  if (std::FILE* file = std::fopen(path, "a")) {
    std::fputs(line.c_str(), file);
    std::fclose(file);
  }
}

}  // namespace graft::simt
