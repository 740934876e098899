// What becomes of the sums of a block of tiles: left where they are, or scaled, added to and rounded. Included by tile_amx.cpp
// alone.
//
// A class of sums says where those of a block wait between parts of the steps (`waiting`), what they begin with (`initial`), and
// does the rest of a block's work (`do_some`) beside the products of the next, for the tiles leave the other units idle.
#pragma once

#include "kernels/cpu/amx_tiles.h"

namespace graft::kernels::cpu {
namespace {

// Where the sums of a block wait for the next steps.
struct Waiting {
  char* data;
  std::int64_t row_bytes;
};

struct InPlace {
  const TileArguments<Bf16Bits>& t;

  Waiting waiting(std::int64_t row, std::int64_t column) const {
    return {reinterpret_cast<char*>(t.c + row * t.c_stride + column), t.c_stride * kWord};
  }
  const char* initial(std::int64_t row, std::int64_t column) const { return t.add ? waiting(row, column).data : nullptr; }
  void expect(std::int64_t, std::int64_t, std::int64_t) const {}
  void ready(std::int64_t, std::int64_t, std::int64_t) const {}
  void once() const {}
  void do_some() const {}
  void finish_all() const {}
};

// Sums that are not what is wanted yet: of one block of columns. Derived::finish(row, from) makes a row of it what is wanted, and
// Derived::target(row, column) is where that is written: the line is fetched while the products are still computed.
template <class Derived>
class Aside {
 public:
  // No block is come back to: the next but one may lie where this one does, in the first cache.
  void once() { kept_ = 2 * kBlock - 1; }
  Waiting waiting(std::int64_t row, std::int64_t) const { return {place(row), kBlock * kWord}; }
  const char* initial(std::int64_t, std::int64_t) const { return nullptr; }
  void expect(std::int64_t row, std::int64_t rows, std::int64_t column) {
    expected_ = row, expected_end_ = row + rows, expected_column_ = column;
  }
  void ready(std::int64_t row, std::int64_t rows, std::int64_t column) {
    next_ = row, end_ = row + rows;
    static_cast<Derived*>(this)->begin(column);
  }
  void do_some() {
    for (int i = 0; i < 4 && next_ < end_; ++i) finish_next();
    for (int i = 0; i < 4 && expected_ < expected_end_; ++i)
      __builtin_prefetch(static_cast<Derived*>(this)->target(expected_++, expected_column_), /*write*/ 1, 3);
  }
  void finish_all() {
    while (next_ < end_) finish_next();
  }

 protected:
  explicit Aside(std::int64_t rows) {
    thread_local Memory memory;
    data_ = memory.get(rows * kBlock * kWord);
  }

 private:
  void finish_next() {
    static_cast<Derived*>(this)->finish(next_, place(next_));
    ++next_;
  }
  char* place(std::int64_t row) const { return data_ + (row & kept_) * kBlock * kWord; }

  char* data_;
  std::int64_t kept_ = ~std::int64_t{0};
  std::int64_t next_ = 0, end_ = 0, expected_ = 0, expected_end_ = 0, expected_column_ = 0;
};

inline __mmask32 leading(std::int64_t n) { return n < kBlock ? (1u << n) - 1 : ~0u; }

inline __m512 widened(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
inline void widen(const Bf16Bits* from, __mmask32 mask, __m512& low, __m512& high) {
  const __m512i bits = _mm512_maskz_loadu_epi16(mask, from);
  low = widened(_mm512_castsi512_si256(bits)), high = widened(_mm512_extracti64x4_epi64(bits, 1));
}

// A row of 32 columns of out = [out +] [bias +] scale * sums, rounded.
class Row {
 public:
  Row(Bf16Bits* out, std::int64_t stride, std::int64_t columns, const Bf16Bits* bias, bool add, float scale)
      : out_(out), bias_(bias), stride_(stride), columns_(columns), add_(add), scale_(_mm512_set1_ps(scale)) {}

  const void* at(std::int64_t row, std::int64_t column) const { return out_ + row * stride_ + column; }
  void begin(std::int64_t column) {
    column_ = column;
    mask_ = leading(columns_ - column);
    low_bias_ = high_bias_ = _mm512_setzero_ps();
    if (bias_ != nullptr) widen(bias_ + column, mask_, low_bias_, high_bias_);
  }
  void write(std::int64_t row, __m512 low, __m512 high) const {
    Bf16Bits* const out = out_ + row * stride_ + column_;
    low = _mm512_fmadd_ps(low, scale_, low_bias_), high = _mm512_fmadd_ps(high, scale_, high_bias_);
    if (add_) {
      __m512 low_before, high_before;
      widen(out, mask_, low_before, high_before);
      low = _mm512_add_ps(low, low_before), high = _mm512_add_ps(high, high_before);
    }
    _mm512_mask_storeu_epi16(out, mask_, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }

 private:
  Bf16Bits* out_;
  const Bf16Bits* bias_;
  std::int64_t stride_, columns_, column_ = 0;
  bool add_;
  __mmask32 mask_ = 0;
  __m512 scale_, low_bias_, high_bias_;
};

// Lines of what is wanted next, some of them with each step.
class Fetched {
 public:
  Fetched(const Ahead& ahead, std::int64_t steps)
      : row_(static_cast<const char*>(ahead.rows)), stride_(ahead.stride), rows_(ahead.count), bytes_(ahead.bytes) {
    const std::int64_t lines = rows_ * ((bytes_ + kLine - 1) / kLine);
    at_once_ = steps > 0 ? (lines + steps - 1) / steps : 0;
  }
  void fetch_some() {
    for (std::int64_t i = 0; i < at_once_ && rows_ > 0; ++i) {
      _mm_prefetch(row_ + byte_, _MM_HINT_T1);
      if ((byte_ += kLine) < bytes_) continue;
      byte_ = 0, row_ += stride_, --rows_;
    }
  }

 private:
  const char* row_;
  std::int64_t stride_, rows_, bytes_, at_once_, byte_ = 0;
};

class Rounded : public Aside<Rounded> {
 public:
  Rounded(const FinishArguments<Bf16Bits>& t, std::int64_t steps)
      : Aside(t.rows), row_(t.out, t.out_stride, t.columns, t.bias, t.add, t.scale), next_(t.ahead, steps) {}

  void do_some() {
    Aside::do_some();
    next_.fetch_some();
  }
  const void* target(std::int64_t row, std::int64_t column) const { return row_.at(row, column); }
  void begin(std::int64_t column) { row_.begin(column); }
  void finish(std::int64_t row, const char* from) const { row_.write(row, _mm512_load_ps(from), _mm512_load_ps(from + kLine)); }

 private:
  Row row_;
  Fetched next_;
};

// Sixteen columns of a row of c.
inline __m512 scaled(const Int8Arguments& t, std::int64_t row, std::int64_t column, const char* from) {
  const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(from), _mm512_loadu_si512(t.shift + column)));
  const __m512 value =
      _mm512_mul_ps(_mm512_mul_ps(sum, _mm512_set1_ps(t.row_scale[row])), _mm512_loadu_ps(t.column_scale + column));
  return t.add ? _mm512_add_ps(_mm512_loadu_ps(t.c + row * t.c_stride + column), value) : value;
}

class Scaled : public Aside<Scaled> {
 public:
  explicit Scaled(const Int8Arguments& t) : Aside(t.rows), t_(t) {}

  const void* target(std::int64_t row, std::int64_t column) const { return t_.c + row * t_.c_stride + column; }
  void begin(std::int64_t column) { column_ = column; }
  void finish(std::int64_t row, const char* from) const {
    for (std::int64_t i = column_; i < column_ + kBlock && i < t_.columns; i += kTile, from += kLine)
      _mm512_storeu_ps(t_.c + row * t_.c_stride + i, scaled(t_, row, i, from));
  }

 private:
  const Int8Arguments& t_;
  std::int64_t column_ = 0;
};

class ScaledRounded : public Aside<ScaledRounded> {
 public:
  explicit ScaledRounded(const Int8Finish& t)
      : Aside(t.sums.rows), t_(t.sums), row_(t.out, t.out_stride, t.columns, t.bias, t.add, t.scale) {}

  const void* target(std::int64_t row, std::int64_t column) const { return row_.at(row, column); }
  void begin(std::int64_t column) {
    column_ = column;
    row_.begin(column);
  }
  void finish(std::int64_t row, const char* from) const {
    const __m512 low = scaled(t_, row, column_, from);
    const bool wide = column_ + kTile < t_.columns;
    row_.write(row, low, wide ? scaled(t_, row, column_ + kTile, from + kLine) : _mm512_setzero_ps());
  }

 private:
  const Int8Arguments& t_;
  Row row_;
  std::int64_t column_ = 0;
};

}  // namespace
}  // namespace graft::kernels::cpu
