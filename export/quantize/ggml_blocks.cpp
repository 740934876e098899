// Blocks of 32 elements with one scale, or one scale and one minimum, in f16.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "export/quantize/ggml.h"

namespace graft::exports::detail {
namespace {

constexpr int kBlock = 32;

void store16(std::byte* out, float value) {
  const std::uint16_t half = f16_from_f32(value);
  std::memcpy(out, &half, sizeof half);
}

// 1/d is infinite for d = 0 and for a subnormal d, which f16 holds as zero in any case.
float inverse_of(float d) {
  const float inverse = 1 / d;
  return std::isfinite(inverse) ? inverse : 0;
}

// Low nibbles are elements 0..15, high nibbles 16..31; the fifth bits, where there are any, go to a word of their own.
void store_codes(const int* codes, std::byte* nibbles) {
  for (int j = 0; j < 16; ++j) nibbles[j] = static_cast<std::byte>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}
void store_fifth_bits(const int* codes, std::byte* out) {
  std::uint32_t bits = 0;
  for (int j = 0; j < kBlock; ++j) bits |= (static_cast<std::uint32_t>(codes[j]) >> 4) << j;
  std::memcpy(out, &bits, sizeof bits);
}

// The code of zero is `zero`, the largest 2 zero - 1: x = signed largest -> 0, its opposite does not fit and is clipped.
void encode_signed(const float* x, int zero, std::byte* d_out, int* codes) {
  float magnitude = 0, largest = 0;
  for (int j = 0; j < kBlock; ++j)
    if (magnitude < std::fabs(x[j])) {
      magnitude = std::fabs(x[j]);
      largest = x[j];
    }
  const float d = largest / static_cast<float>(-zero), inverse = inverse_of(d);
  store16(d_out, d);
  const float shift = static_cast<float>(zero) + 0.5f;
  for (int j = 0; j < kBlock; ++j) codes[j] = std::min(2 * zero - 1, static_cast<int>(x[j] * inverse + shift));
}

void encode_affine(const float* x, int most, std::byte* d_out, int* codes) {
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  const float minimum = *low, d = (*high - minimum) / static_cast<float>(most), inverse = inverse_of(d);
  store16(d_out, d);
  store16(d_out + 2, minimum);
  // A range that overflows f32 gives NaN here, and a scale that verification refuses.
  const float limit = static_cast<float>(most);
  for (int j = 0; j < kBlock; ++j) codes[j] = static_cast<int>(std::min(limit, (x[j] - minimum) * inverse + 0.5f));
}

}  // namespace

void block_q4_0(const float* x, std::byte* out) {
  int codes[kBlock];
  encode_signed(x, 8, out, codes);
  store_codes(codes, out + 2);
}

void block_q4_1(const float* x, std::byte* out) {
  int codes[kBlock];
  encode_affine(x, 15, out, codes);
  store_codes(codes, out + 4);
}

void block_q5_0(const float* x, std::byte* out) {
  int codes[kBlock];
  encode_signed(x, 16, out, codes);
  store_fifth_bits(codes, out + 2);
  store_codes(codes, out + 6);
}

void block_q5_1(const float* x, std::byte* out) {
  int codes[kBlock];
  encode_affine(x, 31, out, codes);
  store_fifth_bits(codes, out + 4);
  store_codes(codes, out + 8);
}

}  // namespace graft::exports::detail
