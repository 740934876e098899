#include "kernels/cpu/tile.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace graft::kernels::cpu {
namespace {

constexpr std::array kNames = {"scalar", "avx2", "avx512", "avx512_bf16", "amx"};

// The processor has tiles of bf16 and of 8 bits, the system saves them (some virtual machines show the first without the second),
// and lets this process use them, which must be asked for.
bool amx_usable() {
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;  // AMX-BF16, AMX-TILE, AMX-INT8
  constexpr unsigned kSaved = 3u << 17;                         // XCR0: TILECFG, TILEDATA
  constexpr int kTileData = 18, kRequestPermission = 0x1023;    // ARCH_REQ_XCOMP_PERM of Linux 5.16
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kNeeded) != kNeeded) return false;
  unsigned saved = 0, high = 0;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  return (saved & kSaved) == kSaved && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Isa of_machine() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return Isa::avx512;
  return amx_usable() ? Isa::amx : Isa::avx512_bf16;
}

Isa allowed() {
  const char* const wanted = std::getenv("GRAFT_ISA");
  const auto found = wanted == nullptr ? kNames.end() : std::find(kNames.begin(), kNames.end(), std::string_view(wanted));
  return found == kNames.end() ? Isa::amx : static_cast<Isa>(found - kNames.begin());
}

}  // namespace

Isa isa() {
  static const Isa found = std::min(of_machine(), allowed());
  return found;
}

const char* name_of(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

bool has_bf16_dot() { return isa() >= Isa::avx512_bf16; }

bool has_int8_dot() {
  static const bool there = isa() >= Isa::avx512 && __builtin_cpu_supports("avx512vnni");
  return there || isa() == Isa::amx;
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

void multiply(const TileArguments<Bf16Bits>& arguments) {
  if (isa() == Isa::amx) return TileAmx::multiply(arguments);
  TileAvx512Bf16::multiply(arguments);
}
void finish(const FinishArguments<Bf16Bits>& arguments) {
  if (isa() == Isa::amx) return TileAmx::finish(arguments);
  TileAvx512Bf16::finish(arguments);
}

void multiply(const Int8Arguments& arguments) {
  if (isa() == Isa::amx) return TileAmx::multiply(arguments);
  if (has_int8_dot()) return TileAvx512Vnni::multiply(arguments);
  if (isa() >= Isa::avx2) return TileAvx2::multiply(arguments);
  TileScalar::multiply(arguments);
}

}  // namespace graft::kernels::cpu
