#include <algorithm>
#include <limits>

#include "kernels/gemm/gemm.h"

namespace graft::cuda {
namespace {

std::uintptr_t element(DType type) { return type == DType::bf16 ? 2 : 4; }

bool misaligned(const void* data, DType type) { return reinterpret_cast<std::uintptr_t>(data) % element(type) != 0; }

}  // namespace

const char* gemm_fault(const Gemm& g) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (const std::int64_t size : {g.m, g.n, g.k})
    if (size < 0 || size > most) return "a size is below 0 or beyond 32 bits";
  if (g.a.ld < std::max<std::int64_t>(g.a.transposed ? g.k : g.m, 1))
    return "the leading dimension of A is shorter than a column";
  if (g.b.ld < std::max<std::int64_t>(g.b.transposed ? g.n : g.k, 1))
    return "the leading dimension of B is shorter than a column";
  if (g.ldc < std::max<std::int64_t>(g.m, 1)) return "the leading dimension of C is shorter than a column";
  if (misaligned(g.a.data, g.type) || misaligned(g.b.data, g.type) || misaligned(g.c, g.c_type))
    return "an address is not a multiple of its element";
  if (g.type == DType::f32 && g.c_type == DType::bf16) return "C is bf16 but its operands are f32";
  return nullptr;
}

}  // namespace graft::cuda
