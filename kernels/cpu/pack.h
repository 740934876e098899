// Right sides of tile products from rows in memory (the layout: kernels/cpu/tile.h).
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/cpu/pairs.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/transpose.h"

namespace graft::kernels::cpu {

inline constexpr std::int64_t kTileDepth = 32;  // bf16 elements that AMX multiplies at one time
inline constexpr std::int64_t kPanel = 64;      // columns that are packed together, at most
// On this machine: AMX wants the right side of its 32 columns close together.
inline std::int64_t panel_columns() { return isa() == Isa::amx ? 32 : kPanel; }

template <class Element>
inline constexpr std::int64_t kDepth = sizeof(Element) == 2 ? 2 : 1;
inline std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

// (n, k) rows as the right side of a product over k with `width` >= n columns; zero beyond n and k.
template <class Element>
void pack_transposed(const Element* rows, std::int64_t stride, std::int64_t n, std::int64_t k, std::int64_t width, Element* out) {
  constexpr std::int64_t depth = kDepth<Element>;
  const std::int64_t words = k / depth;
  if (n < width || k % depth != 0) std::fill(out, out + round_up(k, depth) * width, Element{});
  transpose_words(rows, stride * static_cast<std::int64_t>(sizeof(Element)), n, words, reinterpret_cast<std::uint32_t*>(out),
                  width);
  if (k % depth != 0)
    for (std::int64_t i = 0; i < n; ++i) out[(words * width + i) * depth] = rows[i * stride + k - 1];
}

// (k, n) rows as the right side of a product over k with `width` >= n columns; zero beyond n and k.
inline void pack(const float* rows, std::int64_t stride, std::int64_t k, std::int64_t n, std::int64_t width, float* out) {
  for (std::int64_t p = 0; p < k; ++p) {
    std::copy(rows + p * stride, rows + p * stride + n, out + p * width);
    std::fill(out + p * width + n, out + (p + 1) * width, 0.f);
  }
}
inline void pack(const Bf16Bits* rows, std::int64_t stride, std::int64_t k, std::int64_t n, std::int64_t width, Bf16Bits* out) {
  auto* words = reinterpret_cast<std::uint32_t*>(out);
  interleave_rows(rows, stride, k, n, words, width);
  if (n < width)
    for (std::int64_t p = 0; p < k; p += 2, words += width) std::fill(words + n, words + width, 0u);
}

}  // namespace graft::kernels::cpu
