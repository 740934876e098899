#include "kernels/cpu/int8.h"

#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/codes.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/tasks.h"
#include "kernels/simd.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kDepth8 = 4, kRows = 64;
constexpr std::int64_t kLine = 64;  // of the cache: what AMX loads at one time lies in one
constexpr std::uint8_t kZero = 128;

// Codes plus 128 of the rotated row, zeros up to a whole step; returns the scale.
template <class Element>
float quantize_row(const Element* x, std::int64_t n, std::uint8_t* codes) {
  thread_local Scratch memory;
  auto* rotated = memory.get<float>(n);
  std::fill(codes + n, codes + round_up(n, kDepth8), kZero);
  if (isa() >= Isa::avx512) return CodesAvx512::of_row(x, n, rotated, codes);
  if (isa() == Isa::avx2) return CodesAvx2::of_row(x, n, rotated, codes);
  return CodesScalar::of_row(x, n, rotated, codes);
}

// The codes themselves instead of codes plus 128; returns their sum.
GRAFT_SIMD std::int32_t make_signed(std::uint8_t* codes, std::int64_t n) {
  std::int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) {
    codes[i] ^= kZero;
    sum += static_cast<std::int8_t>(codes[i]);
  }
  return sum;
}

}  // namespace

template <class Element>
Int8Rows::Int8Rows(const Element* x, std::int64_t stride, std::int64_t rows, std::int64_t columns)
    : stride_(round_up(columns, kLine)),
      codes_(code_memory_.get<std::uint8_t>(rows * stride_)),
      scales_(scale_memory_.get<float>(rows)) {
  for_each_task((rows + kRows - 1) / kRows, [&](std::int64_t task) {
    const std::int64_t end = std::min(rows, (task + 1) * kRows);
    for (std::int64_t row = task * kRows; row < end; ++row)
      scales_[row] = quantize_row(x + row * stride, columns, codes_ + row * stride_);
  });
}

template <class Element>
Int8Matrix::Int8Matrix(const Element* w, std::int64_t stride, std::int64_t n, std::int64_t k) : n_(n), k_(k) {
  if (k > kMaxInt8Depth)
    throw UnsupportedError(cat("a linear of ", k, " inputs or outputs is too wide for products in 8 bits, which end at ",
                               kMaxInt8Depth, "; set train.base_precision: full"));
  const std::int64_t padded = round_up(n, kLanes), depth = round_up(k, kDepth8);
  codes_ = code_memory_.get<std::int8_t>(padded * depth);
  scales_ = scale_memory_.get<float>(padded);
  shifts_ = shift_memory_.get<std::int32_t>(padded);
  std::fill(codes_, codes_ + padded * depth, std::int8_t{0});
  std::fill(scales_, scales_ + padded, 0.f);
  std::fill(shifts_, shifts_ + padded, 0);
  for_each_task((n + panel_columns() - 1) / panel_columns(), [&](std::int64_t task) {
    const std::int64_t column = task * panel_columns(), count = std::min(panel_columns(), n - column);
    std::vector<std::uint8_t> rows(static_cast<std::size_t>(count * depth));
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint8_t* row = rows.data() + i * depth;
      scales_[column + i] = quantize_row(w + (column + i) * stride, k, row);
      shifts_[column + i] = -kZero * make_signed(row, depth);
    }
    transpose_words(rows.data(), depth, count, depth / kDepth8, reinterpret_cast<std::uint32_t*>(codes_ + column * depth),
                    round_up(count, kLanes));
  });
}

std::int64_t Int8Matrix::bytes() const {
  return round_up(n_, kLanes) * (round_up(k_, kDepth8) + static_cast<std::int64_t>(sizeof(float) + sizeof(std::int32_t)));
}

Int8Arguments Int8Matrix::panel(const Int8Rows& x, std::int64_t row, std::int64_t count, std::int64_t column, float* c,
                                std::int64_t c_stride, bool add) const {
  const std::int64_t depth = round_up(k_, kDepth8), width = round_up(std::min(panel_columns(), n_ - column), kLanes);
  return {x.codes(row),
          x.stride(),
          count,
          x.scales() + row,
          codes_ + column * depth,
          width,
          depth / kDepth8,
          scales_ + column,
          shifts_ + column,
          c,
          c_stride,
          width,
          add};
}

template Int8Rows::Int8Rows(const float*, std::int64_t, std::int64_t, std::int64_t);
template Int8Rows::Int8Rows(const Bf16Bits*, std::int64_t, std::int64_t, std::int64_t);
template Int8Matrix::Int8Matrix(const float*, std::int64_t, std::int64_t, std::int64_t);
template Int8Matrix::Int8Matrix(const Bf16Bits*, std::int64_t, std::int64_t, std::int64_t);

}  // namespace graft::kernels::cpu
