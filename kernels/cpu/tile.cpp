#include "kernels/cpu/tile.h"

#include <cpuid.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace graft::kernels::cpu {
namespace {

// The processor has AMX-BF16 and the system saves its tiles: some virtual machines show the first without the second, and there
// the library has no fast products either.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & (1u << 22)) == 0) return false;
  constexpr unsigned kTiles = 3u << 17;  // XCR0: TILECFG, TILEDATA
  unsigned saved = 0, high = 0;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  return (saved & kTiles) == kTiles;
}

Isa of_machine() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::avx2;
  return __builtin_cpu_supports("avx512bf16") ? Isa::avx512_bf16 : Isa::avx512;
}

Isa allowed() {
  const char* const name = std::getenv("GRAFT_ISA");
  const std::string_view wanted = name == nullptr ? "" : name;
  if (wanted == "scalar") return Isa::scalar;
  if (wanted == "avx2") return Isa::avx2;
  return wanted == "avx512" ? Isa::avx512 : Isa::avx512_bf16;
}

}  // namespace

Isa isa() {
  static const Isa found = std::min(of_machine(), allowed());
  return found;
}

bool has_fast_bf16_dot() {
  static const bool fast = isa() == Isa::avx512_bf16 && !has_amx();
  return fast;
}

bool has_int8_dot() {
  static const bool there = isa() >= Isa::avx512 && __builtin_cpu_supports("avx512vnni");
  return there;
}

void multiply(const TileArguments<float>& arguments) {
  if (isa() >= Isa::avx512) return TileAvx512::multiply(arguments);
  if (isa() == Isa::avx2) return TileAvx2::multiply(arguments);
  TileScalar::multiply(arguments);
}
void finish(const FinishArguments<float>& arguments) {
  if (isa() >= Isa::avx512) return TileAvx512::finish(arguments);
  if (isa() == Isa::avx2) return TileAvx2::finish(arguments);
  TileScalar::finish(arguments);
}

void multiply(const TileArguments<Bf16Bits>& arguments) { TileAvx512Bf16::multiply(arguments); }
void finish(const FinishArguments<Bf16Bits>& arguments) { TileAvx512Bf16::finish(arguments); }

void multiply(const Int8Arguments& arguments) {
  if (has_int8_dot()) return TileAvx512Vnni::multiply(arguments);
  if (isa() >= Isa::avx2) return TileAvx2::multiply(arguments);
  TileScalar::multiply(arguments);
}

}  // namespace graft::kernels::cpu
