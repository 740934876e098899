#include "kernels/cpu/tile.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace graft::kernels::cpu {
namespace {

constexpr std::array kNames = {"scalar", "avx2", "avx512", "avx512_bf16", "amx"};

Isa of_machine() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return Isa::avx512;
  return TileAmx::usable() ? Isa::amx : Isa::avx512_bf16;
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
