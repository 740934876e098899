// The loops of a tile product, for one instruction set. Included by tile_<isa>.cpp alone, which are compiled with that set's
// flags: nothing here may be an inline function that another file could share (hence the unnamed namespace).
#pragma once

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {
namespace {

// Set: Vector, Element, kDepth, kWidth (floats in a Vector), load(const float*), store(float*, Vector), zero(),
// load_b(const Element*), broadcast_a(const Element*), multiply_add(a, b, sum), times(Vector, float), plus(Vector, Vector), and
// widen(const Element*, n), narrow(Element*, n, Vector): the first n of a vector's elements.
template <class Set, int kRows, int kVectors>
struct Sums {
  typename Set::Vector v[kRows][kVectors];

  void zero() {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) v[r][c] = Set::zero();
  }
  void add_product(const typename Set::Element* a, std::int64_t a_stride, const typename Set::Element* b, std::int64_t b_stride,
                   std::int64_t steps) {
    for (std::int64_t p = 0; p < steps; ++p) {
      decltype(Set::load_b(b)) right[kVectors];
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) right[c] = Set::load_b(b + (p * b_stride + c * Set::kWidth) * Set::kDepth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const auto left = Set::broadcast_a(a + r * a_stride + p * Set::kDepth);
#pragma GCC unroll 8
        for (int c = 0; c < kVectors; ++c) v[r][c] = Set::multiply_add(left, right[c], v[r][c]);
      }
    }
  }
};

template <class Set, int kRows, int kVectors>
void block(const TileArguments<typename Set::Element>& t, std::int64_t row, std::int64_t column) {
  Sums<Set, kRows, kVectors> sums;
  float* c = t.c + row * t.c_stride + column;
  if (t.add) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums.v[r][v] = Set::load(c + r * t.c_stride + v * Set::kWidth);
  } else {
    sums.zero();
  }
  sums.add_product(t.a + row * t.a_stride, t.a_stride, t.b + column * Set::kDepth, t.b_stride, t.steps);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Set::store(c + r * t.c_stride + v * Set::kWidth, sums.v[r][v]);
}

template <class Set, int kRows, int kVectors>
void block(const FinishArguments<typename Set::Element>& t, std::int64_t row, std::int64_t column) {
  Sums<Set, kRows, kVectors> sums;
  sums.zero();
  const auto* b = t.b + column * Set::kDepth;
  for (std::int64_t i = 0; i < t.terms; ++i) {
    const auto& left = t.left[i];
    sums.add_product(left.a + row * left.a_stride, left.a_stride, b, t.b_stride, left.steps);
    b += left.steps * t.b_stride * Set::kDepth;
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t at = column + v * Set::kWidth, n = t.columns - at < Set::kWidth ? t.columns - at : Set::kWidth;
    if (n <= 0) break;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      auto* out = t.out + (row + r) * t.out_stride + at;
      auto value = Set::times(sums.v[r][v], t.scale);
      if (t.bias != nullptr) value = Set::plus(value, Set::widen(t.bias + at, n));
      if (t.add) value = Set::plus(value, Set::widen(out, n));
      Set::narrow(out, n, value);
    }
  }
}

// Set of codes: Vector holds the int32 sums; start(const std::int32_t* shift), and finish(float* c, sums, row scale,
// const float* column_scale, add) writes a vector of results.
template <class Set, int kRows, int kVectors>
void block(const Int8Arguments& t, std::int64_t row, std::int64_t column) {
  Sums<Set, kRows, kVectors> sums;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums.v[r][v] = Set::start(t.shift + column + v * Set::kWidth);
  sums.add_product(t.a + row * t.a_stride, t.a_stride, reinterpret_cast<const std::uint8_t*>(t.b) + column * Set::kDepth,
                   t.b_stride, t.steps);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      Set::finish(t.c + (row + r) * t.c_stride + column + v * Set::kWidth, sums.v[r][v], t.row_scale[row + r],
                  t.column_scale + column + v * Set::kWidth, t.add);
}

template <class Set, int kRows, int kVectors, class Arguments>
void columns_of(const Arguments& t, std::int64_t row) {
  std::int64_t column = 0;
  for (; column + (kVectors - 1) * Set::kWidth < t.columns; column += kVectors * Set::kWidth)
    block<Set, kRows, kVectors>(t, row, column);
  if constexpr (kVectors > 2) {  // half a panel
    for (; column + Set::kWidth < t.columns; column += 2 * Set::kWidth) block<Set, kRows, 2>(t, row, column);
  }
  if constexpr (kVectors > 1) {
    for (; column < t.columns; column += Set::kWidth) block<Set, kRows, 1>(t, row, column);
  }
}

template <class Set, int kRows, int kVectors, class Arguments>
void rows_of(const Arguments& t, std::int64_t row = 0) {
  for (; row + kRows <= t.rows; row += kRows) columns_of<Set, kRows, kVectors>(t, row);
  if constexpr (kRows > 1) {
    constexpr int kFewer = kRows > 4 ? 4 : kRows / 2;  // attention's 64 rows are ten times 6 and 4, a rank of 16 twice and 4
    if (row < t.rows) rows_of<Set, kFewer, kVectors>(t, row);
  }
}

}  // namespace
}  // namespace graft::kernels::cpu
