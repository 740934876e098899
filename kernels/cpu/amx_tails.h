// The operands of a product of AMX's tiles, and what of them fills no tile. Included by tile_amx.cpp alone, which is compiled for
// these instructions: nothing here may be an inline function that another file could share (hence the unnamed namespace).
#pragma once

#include <immintrin.h>

#include <cstring>
#include <new>

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kTile = 16;          // rows of a tile, its columns of 32 bits, and steps
constexpr std::int64_t kBlock = 2 * kTile;  // rows and columns whose sums are held at one time
constexpr std::int64_t kWord = 4, kLine = kTile * kWord;
constexpr std::int64_t kPart = 256, kWhole = 320;  // steps: 32 KiB of a right side, or 40 KiB where that is all of it

// The compiler does not know that tiles and their configuration are loaded from memory: what was written must be there.
inline void written(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

// As Scratch (kernels/cpu/scratch.h), whose templates another file could share.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { release(); }
  char* get(std::int64_t bytes) {
    if (bytes > size_) {
      release();
      data_ = ::operator new(static_cast<std::size_t>(bytes), kAligned);
      size_ = bytes;
    }
    return static_cast<char*>(data_);
  }

 private:
  static constexpr std::align_val_t kAligned{kLine};
  void release() {
    ::operator delete(data_, kAligned);
    data_ = nullptr, size_ = 0;
  }
  void* data_ = nullptr;
  std::int64_t size_ = 0;
};

template <class Element>
struct Operands {
  const LeftSide<Element>* left;
  std::int64_t terms;
  const void* b;
  std::int64_t b_stride;
};

// Steps beyond a multiple of 16 of all terms side by side, then zeros up to a multiple of 16, of both sides: a low-rank term
// costs what it weighs.
template <class Element>
class Tails {
 public:
  Tails(const Operands<Element>& in, std::int64_t rows, std::int64_t columns) {
    std::int64_t words = 0;
    for (std::int64_t i = 0; i < in.terms; ++i) words += in.left[i].steps % kTile;
    steps_ = (words + kTile - 1) / kTile * kTile;
    if (steps_ == 0) return;
    right_stride_ = columns * kWord;
    thread_local Memory memory;
    left_ = memory.get(steps_ * kWord * (rows + columns));
    right_ = left_ + steps_ * kWord * rows;
    std::memset(right_ + words * right_stride_, 0, static_cast<std::size_t>((steps_ - words) * right_stride_));
    const auto* b = static_cast<const char*>(in.b);
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < in.terms; ++i) {
      const LeftSide<Element>& left = in.left[i];
      const std::int64_t full = left.steps / kTile * kTile, tail = left.steps - full;
      for (std::int64_t p = 0; p < tail; ++p)
        std::memcpy(right_ + (at + p) * right_stride_, b + (full + p) * in.b_stride * kWord,
                    static_cast<std::size_t>(right_stride_));
      if (tail > 0) copy(left, full, tail, rows, at);
      at += tail;
      b += left.steps * in.b_stride * kWord;
    }
    for (std::int64_t r = 0; r < rows && words < steps_; ++r)
      _mm512_mask_storeu_epi32(left_ + (r * steps_ + words) * kWord, mask(steps_ - words), _mm512_setzero_si512());
    written(left_);
  }

  std::int64_t steps() const { return steps_; }
  const char* left(std::int64_t row) const { return left_ + row * steps_ * kWord; }
  std::int64_t left_stride() const { return steps_ * kWord; }
  const char* right() const { return right_; }
  std::int64_t right_stride() const { return right_stride_; }

 private:
  static __mmask16 mask(std::int64_t words) { return static_cast<__mmask16>((1u << words) - 1); }
  void copy(const LeftSide<Element>& left, std::int64_t from, std::int64_t words, std::int64_t rows, std::int64_t to) {
    for (std::int64_t r = 0; r < rows; ++r)
      _mm512_mask_storeu_epi32(
          left_ + (r * steps_ + to) * kWord, mask(words),
          _mm512_maskz_loadu_epi32(mask(words), reinterpret_cast<const char*>(left.a + r * left.a_stride) + from * kWord));
  }

  std::int64_t steps_ = 0, right_stride_ = 0;
  char *left_ = nullptr, *right_ = nullptr;
};

}  // namespace
}  // namespace graft::kernels::cpu
