// Products in codes of 8 bits (W8A8): each row of both sides is rotated, divided by a scale of its own, rounded to -127 ... 127.
//
//   X W^T = (X R)(W R)^T, R R^T = I;  s(v) = max |v_i| / 127;  q(v)_i = round(v_i / s(v)), ties to even
//         = s(x_m R) s(w_n R) sum_k q(x_m R)_k q(w_n R)_k + error
//   R: Hadamard matrices of order h = 16, 64 or 256 over sqrt(h), the largest for which K is a multiple of h; R = I for other K.
//
// The rotation spreads what stands out in a row: without it one activation of a thousand leaves few codes to the others of its
// token (docs/decisions/0011). Source: vector-wise quantization, Dettmers et al. 2022, arXiv:2208.07339, 3.1; for training, both
// Y and dX, Wortsman et al. 2023, arXiv:2304.13013 (SwitchBack); rotated, Ashkboos et al. 2024, arXiv:2404.00456 (QuaRot).
//
// Sums of codes are exact in 32 bits; their order, the threads and the instruction set change no bit. A rotated value is off by
// at most s / 2 (1 + 2^-5, for the f32 sums of the rotation), so a sum by at most
//   (s_x |w R|_1 + s_w |x R|_1 + K s_x s_w / 2) / 2 (1 + 2^-4).
// A row that holds a NaN or an infinity has a scale that is not finite: every product with it is NaN or infinite; so has one with
// values above 2^119. Values below 2^-108 count as zero.
#pragma once

#include <cstdint>

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {

inline constexpr std::int64_t kMaxInt8Depth = 1 << 17;  // K of a product whose sum fits in 32 bits: 2^17 128 127 < 2^31

// (M, K) rows of any stride, f32 or bf16, as the left side: quantized for one step, whose products with all weights share it.
class Int8Rows {
 public:
  template <class Element>
  Int8Rows(const Element* x, std::int64_t stride, std::int64_t rows, std::int64_t columns);

  const std::uint8_t* codes(std::int64_t row) const { return codes_ + row * stride_; }
  std::int64_t stride() const { return stride_; }
  const float* scales() const { return scales_; }

 private:
  std::int64_t stride_;
  Scratch code_memory_, scale_memory_;
  std::uint8_t* codes_;
  float* scales_;
};

// (N, K) rows as the right side, N columns: quantized once and packed in panels (kernels/cpu/pack.h).
class Int8Matrix {
 public:
  template <class Element>
  Int8Matrix(const Element* w, std::int64_t stride, std::int64_t n, std::int64_t k);

  std::int64_t columns() const { return n_; }
  std::int64_t depth() const { return k_; }
  std::int64_t bytes() const;

  // c (count, width) (+)= rows [row, row + count) of x times the panel that begins at `column`.
  void multiply_panel(const Int8Rows& x, std::int64_t row, std::int64_t count, std::int64_t column, float* c,
                      std::int64_t c_stride, bool add) const {
    multiply(panel(x, row, count, column, c, c_stride, add));
  }
  Int8Arguments panel(const Int8Rows& x, std::int64_t row, std::int64_t count, std::int64_t column, float* c,
                      std::int64_t c_stride, bool add) const;

 private:
  std::int64_t n_, k_;
  Scratch code_memory_, scale_memory_, shift_memory_;
  std::int8_t* codes_;
  float* scales_;
  std::int32_t* shifts_;
};

}  // namespace graft::kernels::cpu
