// Small matrix products in registers, the core of the CPU kernels that do not go through a library.
//
//   C (m, n) = A (m, k) B (k, n), or C += A B, summed in f32
//
// A: rows of any stride. B: packed in steps of `depth` rows, so that what one instruction multiplies lies together:
// element (p, j) at b[((p / depth) * b_stride + j) * depth + p % depth]; k is a multiple of depth (pad with zeros). n: a multiple of
// 16. C: f32, rows of any stride. Deterministic: the order of the sums is that of p, whatever the number of rows or columns.
//
// Two kinds: f32 operands with fused multiply-add (depth 1) on every machine; bf16 operands with the pairwise dot product of
// AVX-512-BF16 (depth 2: c += a0 b0 + a1 b1) where that is fast. Machines with AMX have it too, at half the speed of their f32 unit:
// there bf16 tensors are widened, or left to the library, whose bf16 products use AMX.
#pragma once

#include <cstdint>
#include <cstring>

namespace graft::kernels::cpu {

enum class Isa { scalar, avx2, avx512, avx512_bf16 };
// Of this machine; the environment variable GRAFT_ISA (scalar, avx2, avx512) sets a lower one, for tests.
Isa isa();
bool has_fast_bf16_dot();  // AVX-512-BF16 without AMX

inline constexpr std::int64_t kLanes = 16;  // columns of C come in multiples of it

template <class Element>
struct TileArguments {
  const Element* a;
  std::int64_t a_stride, rows;
  const Element* b;
  std::int64_t b_stride, steps;  // steps: k / depth
  float* c;
  std::int64_t c_stride, columns;
  bool add;
};
using Bf16Bits = std::uint16_t;

void multiply(const TileArguments<float>& arguments);     // depth 1
void multiply(const TileArguments<Bf16Bits>& arguments);  // depth 2; only where has_fast_bf16_dot()

// One per instruction set, each in a file compiled for it.
void multiply_scalar(const TileArguments<float>& arguments);
void multiply_avx2(const TileArguments<float>& arguments);
void multiply_avx512(const TileArguments<float>& arguments);
void multiply_avx512_bf16(const TileArguments<Bf16Bits>& arguments);

}  // namespace graft::kernels::cpu
