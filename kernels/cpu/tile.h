// Small matrix products in registers, the core of the CPU kernels that do not go through a library.
//
//   multiply:  C (m, n) = A (m, k) B (k, n), or C += A B                                       C is f32
//   finish:    out (m, n) = [out +] [bias +] scale * sum over terms of A_i B_i                  rounded once to the operands'
//   type
//
// A: rows of any stride. B: packed in steps of `depth` rows, so that what one instruction multiplies lies together:
// element (p, j) at b[((p / depth) * b_stride + j) * depth + p % depth]; k is a multiple of depth (pad with zeros); b_stride is a
// multiple of 16 and not less than n. Deterministic: the order of the sums follows from k alone, whatever the number of rows or
// columns.
//
// Three kinds: f32 operands with fused multiply-add (depth 1) on every machine; bf16 operands (depth 2: c += a0 b0 + a1 b1) on
// machines with AMX or AVX-512-BF16; codes of 8 bits (depth 4) on every machine, twice as fast as bf16 where there is AMX or
// AVX-512-VNNI (kernels/cpu/int8.h).
#pragma once

#include <cstdint>
#include <cstring>

namespace graft::kernels::cpu {

enum class Isa { scalar, avx2, avx512, avx512_bf16, amx };
// Of this machine; the environment variable GRAFT_ISA (scalar, avx2, avx512, avx512_bf16) sets a lower one, for tests.
Isa isa();
const char* name_of(Isa isa);
bool has_bf16_dot();  // AMX or AVX-512-BF16
bool has_int8_dot();  // AMX or AVX-512-VNNI

inline constexpr std::int64_t kLanes = 16;
using Bf16Bits = std::uint16_t;

template <class Element>
struct TileArguments {  // columns: a multiple of 16
  const Element* a;
  std::int64_t a_stride, rows;
  const Element* b;
  std::int64_t b_stride, steps;  // steps: k / depth
  float* c;
  std::int64_t c_stride, columns;
  bool add;
};

template <class Element>
struct LeftSide {
  const Element* a;
  std::int64_t a_stride, steps;
};
// Rows of memory that will be wanted next: fetched to the second cache beside the products, where an instruction set leaves room.
struct Ahead {
  const void* rows = nullptr;
  std::int64_t stride = 0, count = 0, bytes = 0;  // stride and bytes of a row
};
template <class Element>
struct FinishArguments {
  const LeftSide<Element>* left;  // `terms` of them; their right sides follow each other in b
  std::int64_t terms, rows;
  const Element* b;
  std::int64_t b_stride;
  Element* out;
  std::int64_t out_stride, columns;  // columns: any
  const Element* bias;               // (columns), or null
  bool add;
  float scale;
  Ahead ahead = {};
};

// c (+)= row_scale column_scale * the sum over p of (a - 128) b; that sum is exact, so c has the same bits on every machine.
struct Int8Arguments {    // columns: a multiple of 16
  const std::uint8_t* a;  // codes plus 128
  std::int64_t a_stride, rows;
  const float* row_scale;
  const std::int8_t* b;
  std::int64_t b_stride, steps;  // steps: k / 4
  const float* column_scale;
  const std::int32_t* shift;  // of a column: -128 times the sum of b over p, what the 128 in a adds
  float* c;
  std::int64_t c_stride, columns;
  bool add;
};

// The same, and out = [out +] [bias +] scale * c as FinishArguments: c itself is only read, where there is something to add to.
struct Int8Finish {
  Int8Arguments sums;
  Bf16Bits* out;
  std::int64_t out_stride, columns;  // columns: any
  const Bf16Bits* bias;
  bool add;
  float scale;
};

void multiply(const TileArguments<float>& arguments);     // depth 1
void multiply(const TileArguments<Bf16Bits>& arguments);  // depth 2; only where has_bf16_dot()
void finish(const FinishArguments<float>& arguments);
void finish(const FinishArguments<Bf16Bits>& arguments);
void multiply(const Int8Arguments& arguments);

// One of each per instruction set, in a file compiled for it.
struct TileScalar {
  static void multiply(const TileArguments<float>& arguments);
  static void multiply(const Int8Arguments& arguments);
  static void finish(const FinishArguments<float>& arguments);
};
struct TileAvx2 {
  static void multiply(const TileArguments<float>& arguments);
  static void multiply(const Int8Arguments& arguments);
  static void finish(const FinishArguments<float>& arguments);
};
struct TileAvx512 {
  static void multiply(const TileArguments<float>& arguments);
  static void finish(const FinishArguments<float>& arguments);
};
struct TileAvx512Bf16 {
  static void multiply(const TileArguments<Bf16Bits>& arguments);
  static void finish(const FinishArguments<Bf16Bits>& arguments);
};
struct TileAvx512Vnni {
  static void multiply(const Int8Arguments& arguments);
};
struct TileAmx {
  static void multiply(const TileArguments<Bf16Bits>& arguments);
  static void multiply(const Int8Arguments& arguments);
  static void finish(const FinishArguments<Bf16Bits>& arguments);
  static void finish(const Int8Finish& arguments);
};

}  // namespace graft::kernels::cpu
