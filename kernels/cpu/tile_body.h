// The loops of a tile product, for one instruction set. Included by tile_<isa>.cpp alone, which are compiled with that set's flags:
// nothing here may be an inline function that another file could share (hence the unnamed namespace).
#pragma once

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {
namespace {

// Set: Vector, Element, kDepth, kWidth (floats in a Vector), load(const float*), store(float*, Vector), zero(),
// load_b(const Element*), broadcast_a(const Element*), multiply_add(a, b, sum).
template <class Set, int kRows, int kVectors>
void block(const TileArguments<typename Set::Element>& t, std::int64_t row, std::int64_t column) {
  using Vector = typename Set::Vector;
  const auto* a = t.a + row * t.a_stride;
  const auto* b = t.b + column * Set::kDepth;
  float* c = t.c + row * t.c_stride + column;
  Vector sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[r][v] = t.add ? Set::load(c + r * t.c_stride + v * Set::kWidth) : Set::zero();
  for (std::int64_t p = 0; p < t.steps; ++p) {
    decltype(Set::load_b(b)) right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) right[v] = Set::load_b(b + (p * t.b_stride + v * Set::kWidth) * Set::kDepth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto left = Set::broadcast_a(a + r * t.a_stride + p * Set::kDepth);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Set::multiply_add(left, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Set::store(c + r * t.c_stride + v * Set::kWidth, sums[r][v]);
}

template <class Set, int kRows, int kVectors>
void columns_of(const TileArguments<typename Set::Element>& t, std::int64_t row) {
  std::int64_t column = 0;
  for (; column + kVectors * Set::kWidth <= t.columns; column += kVectors * Set::kWidth)
    block<Set, kRows, kVectors>(t, row, column);
  if constexpr (kVectors > 1) {
    for (; column < t.columns; column += Set::kWidth) block<Set, kRows, 1>(t, row, column);
  }
}

template <class Set, int kRows, int kVectors>
void rows_of(const TileArguments<typename Set::Element>& t, std::int64_t row) {
  for (; row + kRows <= t.rows; row += kRows) columns_of<Set, kRows, kVectors>(t, row);
  if constexpr (kRows > 1) {
    if (row < t.rows) rows_of<Set, kRows / 2, kVectors>(t, row);
  }
}

}  // namespace
}  // namespace graft::kernels::cpu
