// Blocks of 32 elements with one scale, or one scale and one minimum, in f16.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "core/simd.h"
#include "export/quantize/ggml.h"
#include "export/quantize/ggml_search.h"
#include "export/quantize/range.h"

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
  const float d = signed_largest<kBlock>(x) / static_cast<float>(-zero), inverse = inverse_of(d);
  store16(d_out, d);
  const float shift = static_cast<float>(zero) + 0.5f;
  for (int j = 0; j < kBlock; ++j) codes[j] = std::min(2 * zero - 1, static_cast<int>(x[j] * inverse + shift));
}

void encode_affine(const float* x, int most, std::byte* d_out, int* codes) {
  const auto [minimum, high] = range_of<kBlock>(x);
  const float d = (high - minimum) / static_cast<float>(most), inverse = inverse_of(d);
  store16(d_out, d);
  store16(d_out + 2, minimum);
  // A range that overflows f32 gives NaN here, and a scale that verification refuses.
  const float limit = static_cast<float>(most);
  for (int j = 0; j < kBlock; ++j) codes[j] = static_cast<int>(std::min(limit, (x[j] - minimum) * inverse + 0.5f));
}

// kLanes blocks of a row at a time; what lies beyond its end is zero.
struct Weighed {
  Groups<kBlock> x, weight;
};
// w = importance sqrt(mean x^2 of the row + x^2)
Weighed weighed(const float* x, const float* importance, std::int64_t count, float mean_square) {
  std::array<float, kLanes * kBlock> values{}, weights{};
  std::copy_n(x, count, values.data());
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
    weights[i] = importance[i] * std::sqrt(mean_square + values[i] * values[i]);
  return {groups_at<kBlock>(values.data()), groups_at<kBlock>(weights.data())};
}

// Calls store(blocks, index of the first, number of them) for the row.
template <class Store>
void each_blocks(const float* x, const float* importance, std::int64_t n, Store store) {
  float squares = 0;
  for (std::int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const float mean_square = squares / static_cast<float>(n);
  for (std::int64_t begin = 0; begin < n; begin += kLanes * kBlock) {
    const std::int64_t count = std::min<std::int64_t>(n - begin, kLanes * kBlock);
    store(weighed(x + begin, importance + begin, count, mean_square), begin / kBlock, static_cast<int>(count / kBlock));
  }
}

void codes_of(const Groups<kBlock>& codes, int lane, int* out) {
  for (int j = 0; j < kBlock; ++j) out[j] = static_cast<int>(codes.of[j][lane]);
}

// Codes of four or `five` bits.
void store_bits(const int* codes, bool five, std::byte* out) {
  if (five) store_fifth_bits(codes, out);
  store_codes(codes, out + (five ? 4 : 0));
}

// d | codes
void row_signed(const float* x, const float* importance, std::int64_t n, bool five, std::byte* out) {
  const int zero = five ? 16 : 8, bytes = five ? 22 : 18;
  int codes[kBlock];
  if (importance == nullptr) {
    for (std::int64_t i = 0; i < n; i += kBlock, out += bytes) {
      encode_signed(x + i, zero, out, codes);
      store_bits(codes, five, out + 2);
    }
    return;
  }
  each_blocks(x, importance, n, [&](const Weighed& blocks, std::int64_t first, int count) {
    const auto fit = fit_symmetric(blocks.x, blocks.weight, static_cast<float>(zero));
    for (int lane = 0; lane < count; ++lane) {
      std::byte* block = out + (first + lane) * bytes;
      store16(block, fit.scale[lane]);
      codes_of(fit.codes, lane, codes);
      store_bits(codes, five, block + 2);
    }
  });
}

// d | minimum | codes
void row_affine(const float* x, const float* importance, std::int64_t n, bool five, std::byte* out) {
  const int most = five ? 31 : 15, bytes = five ? 24 : 20;
  int codes[kBlock];
  if (importance == nullptr) {
    for (std::int64_t i = 0; i < n; i += kBlock, out += bytes) {
      encode_affine(x + i, most, out, codes);
      store_bits(codes, five, out + 4);
    }
    return;
  }
  each_blocks(x, importance, n, [&](const Weighed& blocks, std::int64_t first, int count) {
    const auto fit = fit_affine(blocks.x, blocks.weight, {static_cast<float>(most), -0.9f, 0.05f, 36});
    for (int lane = 0; lane < count; ++lane) {
      std::byte* block = out + (first + lane) * bytes;
      store16(block, fit.scale[lane]);
      store16(block + 2, -fit.minimum[lane]);
      codes_of(fit.codes, lane, codes);
      store_bits(codes, five, block + 4);
    }
  });
}

}  // namespace

[[gnu::flatten]] GRAFT_SIMD void row_q4_0(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  row_signed(x, importance, n, false, out);
}
void row_q4_0_of_codes(const float* codes, const float* scales, std::int64_t n, std::byte* out) {
  int shifted[kBlock];
  for (std::int64_t i = 0; i < n; i += kBlock, out += 18) {
    store16(out, scales[i / kBlock]);
    for (int j = 0; j < kBlock; ++j) shifted[j] = static_cast<int>(codes[i + j]) + 8;
    store_codes(shifted, out + 2);
  }
}
[[gnu::flatten]] GRAFT_SIMD void row_q5_0(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  row_signed(x, importance, n, true, out);
}
[[gnu::flatten]] GRAFT_SIMD void row_q4_1(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  row_affine(x, importance, n, false, out);
}
[[gnu::flatten]] GRAFT_SIMD void row_q5_1(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  row_affine(x, importance, n, true, out);
}

}  // namespace graft::exports::detail
