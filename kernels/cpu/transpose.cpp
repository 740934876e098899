#include "kernels/cpu/transpose.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kSide = 16;  // of a square: words of a cache line, so that each is read and written in one go

}  // namespace

void transpose_words(const void* in, std::int64_t in_stride, std::int64_t rows, std::int64_t words, std::uint32_t* out,
                     std::int64_t out_stride) {
  if (isa() >= Isa::avx512) return transpose_words_avx512(in, in_stride, rows, words, out, out_stride);
  for (std::int64_t top = 0; top < rows; top += kSide)
    for (std::int64_t left = 0; left < words; left += kSide)
      for (std::int64_t r = top; r < std::min(top + kSide, rows); ++r) {
        const auto* row = static_cast<const unsigned char*>(in) + r * in_stride;
        for (std::int64_t w = left; w < std::min(left + kSide, words); ++w) std::memcpy(out + w * out_stride + r, row + 4 * w, 4);
      }
}

}  // namespace graft::kernels::cpu
