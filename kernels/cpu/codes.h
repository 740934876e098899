// A row rotated, divided by its scale and rounded to codes of 8 bits plus 128 (kernels/cpu/int8.h: formula and source), for each
// instruction set in a file compiled for it.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {

// codes (n) of x (n), which is rotated in `rotated` (n); returns the scale. Element: float or Bf16Bits.
struct CodesScalar {
  template <class Element>
  static float of_row(const Element* x, std::int64_t n, float* rotated, std::uint8_t* codes);
};
struct CodesAvx2 {
  template <class Element>
  static float of_row(const Element* x, std::int64_t n, float* rotated, std::uint8_t* codes);
};
struct CodesAvx512 {
  template <class Element>
  static float of_row(const Element* x, std::int64_t n, float* rotated, std::uint8_t* codes);
};

}  // namespace graft::kernels::cpu
