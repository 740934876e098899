// kernels/cuda/runtime.h and kernels/gemm/gemm.h of the simulator, for libgraft_simt.so.
#include "kernels/cuda/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <new>

#include "kernels/gemm/gemm.h"
#include "kernels/simt/device.h"
#include "kernels/simt/machine.h"

namespace graft::simt {
namespace {

constexpr std::size_t kGranule = 2;  // of memory whose type is not known: the smallest that the kernels of a training step use

std::deque<std::function<void()>>& queue() {
  static std::deque<std::function<void()>> jobs;
  return jobs;
}

// What a job leaves for those before it must not be done before them.
void in_order(std::function<void()> job) {
  if (queue().empty())
    job();
  else
    enqueue(std::move(job));
}

void check_matrix(const char* name, const void* data, std::int64_t ld, std::int64_t rows, std::int64_t columns,
                  cuda::DType type) {
  const auto bytes = static_cast<std::size_t>((columns - 1) * ld + rows) * (type == cuda::DType::bf16 ? 2 : 4);
  if (rows > 0 && columns > 0 && !in_buffer(data, bytes))
    throw Fault(std::string("gemm: ") + name + " is outside of every buffer");
}

void check_operand(const char* name, const cuda::GemmOperand& x, std::int64_t rows, std::int64_t columns, cuda::DType type) {
  if (x.transposed) std::swap(rows, columns);
  check_matrix(name, x.data, x.ld, rows, columns, type);
}

}  // namespace

void enqueue(std::function<void()> job) { queue().push_back(std::move(job)); }

}  // namespace graft::simt

namespace graft::cuda {

extern "C" const char* graft_runtime_open(RuntimeDevice* device) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * page;
  *device = {"simulated on the host", 8, 0, memory,
             memory};  // the pages of files count as taken where the system counts free ones
  return nullptr;
}

extern "C" Stream graft_runtime_stream() {
  static char stream;
  return reinterpret_cast<Stream>(&stream);
}

extern "C" void* graft_runtime_allocate(std::size_t bytes) {
  try {
    return simt::allocate(bytes, simt::kGranule);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

extern "C" void graft_runtime_release(void* memory) {
  simt::in_order([=] { simt::release(memory); });
}

extern "C" void graft_runtime_use(void* memory, std::size_t bytes) {
  simt::in_order([=] { simt::set_bytes(memory, bytes); });
}

extern "C" void graft_runtime_prefetch(const void*, std::size_t) {}

extern "C" const char* graft_runtime_error_text(int) { return "invalid argument"; }

extern "C" const char* graft_runtime_synchronize() {
  static std::string fault;
  try {
    for (; !simt::queue().empty(); simt::queue().pop_front()) simt::queue().front()();
    return nullptr;
  } catch (const std::exception& error) {
    fault = error.what();
    simt::queue().clear();
    return fault.c_str();
  }
}

extern "C" int graft_gemm(const Gemm& g, void*, std::size_t, Stream stream) {
  if (gemm_fault(g) != nullptr || g.k == 0) return 1;
  const auto job = [g] {
    simt::check_operand("A", g.a, g.m, g.k, g.type);
    simt::check_operand("B", g.b, g.k, g.n, g.type);
    simt::check_matrix("C", g.c, g.ldc, g.m, g.n, g.c_type);
    gemm_cpu(g);
  };
  if (stream == nullptr)
    job();
  else
    simt::enqueue(job);
  return 0;
}

}  // namespace graft::cuda
