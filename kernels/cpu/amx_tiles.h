// The loops over AMX's tiles, and what lies left and right of them. Included by tile_amx.cpp alone, which is compiled for these
// instructions: nothing here may be an inline function that another file could share (hence the unnamed namespace).
//
// A tile is 16 rows of 64 bytes. Of the eight, 0 to 3 hold the sums of 32 rows by 32 columns (0 and 1 the upper 16 rows), 4 and 5
// what lies left of them, 6 and 7 what lies right: four products for four loads. The right side is packed as the instructions
// want it. A tile's loads from the second cache take longer than its products, so 32 columns go through all rows with as many
// steps as leave their right side in the first cache; between those the sums wait in memory.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/amx_tails.h"

namespace graft::kernels::cpu {
namespace {

struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};
};

constexpr Configuration of_rows(std::int64_t rows) {
  const std::int64_t upper = rows < kTile ? rows : kTile, lower = rows - upper;
  Configuration configuration;
  for (int tile = 0; tile < 8; ++tile) {
    const std::int64_t count = tile >= 6 ? kTile : tile == 0 || tile == 1 || tile == 4 ? upper : lower;
    configuration.rows[tile] = static_cast<std::uint8_t>(count);
    configuration.bytes[tile] = count > 0 ? kLine : 0;
  }
  return configuration;
}

void configure(std::int64_t rows) {
  static constexpr Configuration whole = of_rows(kBlock);
  if (rows == kBlock) return _tile_loadconfig(&whole);
  const Configuration configuration = of_rows(rows);
  written(&configuration);
  _tile_loadconfig(&configuration);
}

// The sums of a block += sixteen steps of one term, times as many of its right side. The numbers of tiles must be literals.
template <class Element, int kDown, int kAcross>
inline void add_steps(const char* a, std::int64_t a_stride, const char* b, std::int64_t b_stride) {
  constexpr bool codes = sizeof(Element) == 1;
  _tile_loadd(6, b, b_stride);
  _tile_stream_loadd(4, a, a_stride);
  if constexpr (codes)
    _tile_dpbusd(0, 4, 6);
  else
    _tile_dpbf16ps(0, 4, 6);
  if constexpr (kAcross == 2) {
    _tile_loadd(7, b + kLine, b_stride);
    if constexpr (codes)
      _tile_dpbusd(1, 4, 7);
    else
      _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (kDown == 2) {
    _tile_stream_loadd(5, a + kTile * a_stride, a_stride);
    if constexpr (codes)
      _tile_dpbusd(2, 5, 6);
    else
      _tile_dpbf16ps(2, 5, 6);
    if constexpr (kAcross == 2) {
      if constexpr (codes)
        _tile_dpbusd(3, 5, 7);
      else
        _tile_dpbf16ps(3, 5, 7);
    }
  }
}

// Steps [first, last), multiples of 16, of all terms one after the other, and then of their tails. between: what else there is to
// do, a piece after each sixteen steps, while the tiles are busy.
template <class Element, int kDown, int kAcross, class Between>
inline void add_products(const Operands<Element>& in, const Tails<Element>& tails, std::int64_t row, std::int64_t column,
                         std::int64_t first, std::int64_t last, const Between& between) {
  const auto* b = static_cast<const char*>(in.b) + column * kWord;
  const std::int64_t b_stride = in.b_stride * kWord;
  const auto add = [&](const char* a, std::int64_t a_stride, const char* right, std::int64_t right_stride, std::int64_t steps) {
    for (std::int64_t p = first > 0 ? first : 0; p < steps && p < last; p += kTile) {
      add_steps<Element, kDown, kAcross>(a + p * kWord, a_stride, right + p * right_stride, right_stride);
      between();
    }
    first -= steps, last -= steps;
  };
  for (std::int64_t i = 0; i < in.terms; ++i) {
    const LeftSide<Element>& left = in.left[i];
    add(reinterpret_cast<const char*>(left.a + row * left.a_stride), left.a_stride * static_cast<std::int64_t>(sizeof(Element)),
        b, b_stride, left.steps / kTile * kTile);
    b += left.steps * b_stride;
  }
  if (tails.steps() > 0)
    add(tails.left(row), tails.left_stride(), tails.right() + column * kWord, tails.right_stride(), tails.steps());
}

template <int kDown, int kAcross>
inline void start(const void* from, std::int64_t stride) {
  const auto* const c = static_cast<const char*>(from);
  if (c == nullptr) {
    _tile_zero(0);
    if constexpr (kAcross == 2) _tile_zero(1);
    if constexpr (kDown == 2) _tile_zero(2);
    if constexpr (kDown == 2 && kAcross == 2) _tile_zero(3);
    return;
  }
  _tile_loadd(0, c, stride);
  if constexpr (kAcross == 2) _tile_loadd(1, c + kLine, stride);
  if constexpr (kDown == 2) _tile_loadd(2, c + kTile * stride, stride);
  if constexpr (kDown == 2 && kAcross == 2) _tile_loadd(3, c + kTile * stride + kLine, stride);
}

template <int kDown, int kAcross>
inline void store(void* to, std::int64_t stride) {
  auto* const c = static_cast<char*>(to);
  _tile_stored(0, c, stride);
  if constexpr (kAcross == 2) _tile_stored(1, c + kLine, stride);
  if constexpr (kDown == 2) _tile_stored(2, c + kTile * stride, stride);
  if constexpr (kDown == 2 && kAcross == 2) _tile_stored(3, c + kTile * stride + kLine, stride);
}

}  // namespace
}  // namespace graft::kernels::cpu
