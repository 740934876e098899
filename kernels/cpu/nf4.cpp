#include "kernels/cpu/nf4.h"

#include <algorithm>
#include <array>

#include "kernels/nf4/nf4.h"
#include "kernels/simd.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = cuda::kNf4Block;

float rounded(float x, float) { return x; }
Bf16Bits rounded(float x, Bf16Bits) { return bf16_bits(x); }

template <class Element>
void values_of(const Nf4View& weight, std::int64_t block, Element* values) {
  static const std::array<float, 256> map = cuda::nf4_scale_map();
  const float scale = map[weight.scales[block]] * weight.group_scales[block / cuda::kNf4Group] + weight.offset;
  for (std::size_t i = 0; i < cuda::kNf4Levels.size(); ++i) values[i] = rounded(cuda::kNf4Levels[i] * scale, Element{});
}

int code_at(const std::uint8_t* codes, std::int64_t i) { return i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15; }

template <class Element>
void look_up_each(const std::uint8_t* codes, const Element* values, Element* out) {
  for (std::int64_t i = 0; i < kBlock / 2; ++i) {
    out[2 * i] = values[codes[i] >> 4];
    out[2 * i + 1] = values[codes[i] & 15];
  }
}

}  // namespace

template <class Element>
void dequantize(const Nf4View& weight, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
                Element* out, std::int64_t stride) {
  std::array<Element, cuda::kNf4Levels.size()> values;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = (row + r) * weight.columns + column, end = first + columns;
    Element* to = out + r * stride;
    for (std::int64_t at = first; at < end;) {
      const std::int64_t stop = std::min(at / kBlock * kBlock + kBlock, end);
      values_of(weight, at / kBlock, values.data());
      if (stop - at == kBlock)
        look_up(weight.codes + at / 2, values.data(), to);
      else
        for (std::int64_t i = at; i < stop; ++i) to[i - at] = values[static_cast<std::size_t>(code_at(weight.codes, i))];
      to += stop - at;
      at = stop;
    }
  }
}

void look_up(const std::uint8_t* codes, const float* values, float* out) {
  if (isa() >= Isa::avx512) return look_up_avx512(codes, values, out);
  if (isa() == Isa::avx2) return look_up_avx2(codes, values, out);
  look_up_each(codes, values, out);
}

void look_up(const std::uint8_t* codes, const Bf16Bits* values, Bf16Bits* out) {
  if (isa() >= Isa::avx512_bf16) return look_up_avx512_bf16(codes, values, out);
  look_up_each(codes, values, out);
}

template void dequantize(const Nf4View&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, float*, std::int64_t);
template void dequantize(const Nf4View&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Bf16Bits*, std::int64_t);

}  // namespace graft::kernels::cpu
