// Super-blocks of 256 elements.
#include <array>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "core/simd.h"
#include "export/quantize/ggml.h"
#include "export/quantize/ggml_search.h"

namespace graft::exports::detail {
namespace {

constexpr int kSuper = 256;
using Codes = std::array<std::uint8_t, kSuper>;

void store16(std::byte* out, float value) {
  const std::uint16_t half = f16_from_f32(value);
  std::memcpy(out, &half, sizeof half);
}
float rounded_to_half(float value) { return f32_from_f16(f16_from_f32(value)); }

// Q4_K and Q5_K: x = d * scale * q - dmin * minimum, 8 sub-blocks of 32.
constexpr int kSub = 32, kSubs = kSuper / kSub;
using PerSub = std::array<float, kSubs>;

struct Affine {
  PerSub scale, minimum, weight;  // x = scale q - minimum; sum of the elements' weights
  Codes codes;
};

// w = rms of the sub-block + |x|
Groups<kSub> plain_weights(const Groups<kSub>& x) {
  Lanes squares = all(0), rms = all(0);
  for (const Lanes& value : x.of) squares += value * value;
  for (int lane = 0; lane < kLanes; ++lane) rms[lane] = std::sqrt(squares[lane] / kSub);
  Groups<kSub> weights;
  for (int j = 0; j < kSub; ++j) weights.of[j] = rms + absolute(x.of[j]);
  return weights;
}

// w = importance sqrt(2 mean x^2 of the super-block + x^2)
void weigh(const float* x, const float* importance, float* weights) {
  float squares = 0;
  for (int i = 0; i < kSuper; ++i) squares += x[i] * x[i];
  const float twice_mean = 2 * squares / kSuper;
  for (int i = 0; i < kSuper; ++i) weights[i] = importance[i] * std::sqrt(twice_mean + x[i] * x[i]);
}

Affine fitted(const float* x, const float* importance, float most) {
  const Grids grids = importance   ? Grids{most, -0.9f, 0.05f, 36}
                      : most == 15 ? Grids{15, -1, 0.1f, 20}
                                   : Grids{31, -0.5f, 0.1f, 15};
  float weights[kSuper];
  if (importance) weigh(x, importance, weights);
  Affine out;
  for (int first = 0; first < kSubs; first += kLanes) {
    const Groups<kSub> v = groups_at<kSub>(x + first * kSub);
    const auto fit = fit_affine(v, importance ? groups_at<kSub>(weights + first * kSub) : plain_weights(v), grids);
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto sub = static_cast<std::size_t>(first + lane);
      out.scale[sub] = fit.scale[lane];
      out.minimum[sub] = fit.minimum[lane];
      out.weight[sub] = fit.weight[lane];
      for (int j = 0; j < kSub; ++j)
        out.codes[sub * kSub + static_cast<std::size_t>(j)] = static_cast<std::uint8_t>(fit.codes.of[j][lane]);
    }
  }
  return out;
}

// The scales, or the minima, of a super-block in 6 bits: value = unit * code.
struct SixBits {
  float unit = 0;
  PerSub codes{};
};

float largest_of(const PerSub& values) {
  float largest = 0;
  for (const float value : values) largest = value > largest ? value : largest;
  return largest;
}

SixBits by_largest(const PerSub& values) {
  const float largest = largest_of(values), inverse = largest > 0 ? 63 / largest : 0;
  SixBits six{.unit = largest / 63};
  // Minima below zero do not occur where zero is part of the range, but for rounding.
  for (std::size_t j = 0; j < kSubs; ++j) six.codes[j] = clamped(nearest(inverse * values[j]), 0, 63);
  return six;
}

// The unit that minimises sum w (unit q - value)^2 over nine grids, then single codes moved while that helps (ggml-quants.c,
// make_qp_quants).
SixBits by_weight(const PerSub& values, const PerSub& weights) {
  const float largest = largest_of(values);
  SixBits six;
  if (largest < kNothing) return six;
  const auto code = [&](float inverse, std::size_t j) { return clamped(nearest(inverse * values[j]), 0, 63); };
  float inverse = 63 / largest, least = 0;
  for (int k = -5; k <= 4; ++k) {  // the plain grid, then four on each side of it
    if (k == 0) continue;
    const bool plain = k == -5;
    const float tried = plain ? 63 / largest : (0.1f * static_cast<float>(k) + 63) / largest, unit = 1 / tried;
    float error = 0;
    for (std::size_t j = 0; j < kSubs; ++j) {
      const float difference = values[j] - unit * code(tried, j);
      error += weights[j] * difference * difference;
    }
    if (!plain && !(error < least)) continue;
    least = error;
    inverse = tried;
  }
  float sum_lx = 0, sum_l2 = 0;
  for (std::size_t j = 0; j < kSubs; ++j) {
    six.codes[j] = code(inverse, j);
    sum_lx += weights[j] * values[j] * six.codes[j];
    sum_l2 += weights[j] * six.codes[j] * six.codes[j];
  }
  bool moved = true;
  for (int round = 0; round < 5 && moved; ++round) {
    moved = false;
    for (std::size_t j = 0; j < kSubs; ++j) {
      const float w = weights[j];
      float lx = sum_lx - w * values[j] * six.codes[j], l2 = sum_l2 - w * six.codes[j] * six.codes[j];
      if (!(lx > 0) || !(l2 > 0)) continue;
      const float other = clamped(nearest(values[j] * l2 / lx), 0, 63);
      if (other == six.codes[j]) continue;
      lx += w * values[j] * other;
      l2 += w * other * other;
      if (!(lx * lx * sum_l2 > sum_lx * sum_lx * l2)) continue;
      six.codes[j] = other;
      sum_lx = lx;
      sum_l2 = l2;
      moved = true;
    }
  }
  six.unit = sum_l2 > 0 ? sum_lx / sum_l2 : 0;
  return six;
}

// d | dmin | 12 bytes of 6-bit scales and minima; codes to nearest on the grid that these make.
void store_affine(const float* x, float most, const SixBits& scales, const SixBits& minima, Codes& codes, std::byte* out) {
  store16(out, scales.unit);
  store16(out + 2, minima.unit);
  const float d = rounded_to_half(scales.unit), dmin = rounded_to_half(minima.unit);
  std::array<std::uint8_t, 12> packed{};
  for (std::size_t j = 0; j < kSubs; ++j) {
    const auto scale = static_cast<unsigned>(scales.codes[j]), minimum = static_cast<unsigned>(minima.codes[j]);
    if (j < 4) {
      packed[j] = static_cast<std::uint8_t>(scale);
      packed[j + 4] = static_cast<std::uint8_t>(minimum);
    } else {
      packed[j + 4] = static_cast<std::uint8_t>((scale & 15) | (minimum & 15) << 4);
      packed[j - 4] = static_cast<std::uint8_t>(packed[j - 4] | (scale >> 4) << 6);
      packed[j] = static_cast<std::uint8_t>(packed[j] | (minimum >> 4) << 6);
    }
    const float step = d * static_cast<float>(scale), shift = dmin * static_cast<float>(minimum);
    if (step == 0) continue;
    for (std::size_t i = j * kSub; i < (j + 1) * kSub; ++i)
      codes[i] = static_cast<std::uint8_t>(clamped(nearest((x[i] + shift) / step), 0, most));
  }
  std::memcpy(out + 4, packed.data(), packed.size());
}

// Per 64 elements, 32 low nibbles, then 32 high ones.
void store_nibbles(const Codes& codes, std::byte* out) {
  for (std::size_t c = 0; c < kSuper / 64; ++c)
    for (std::size_t j = 0; j < 32; ++j)
      out[32 * c + j] = static_cast<std::byte>((codes[64 * c + j] & 15) | (codes[64 * c + 32 + j] & 15) << 4);
}

Codes encode_affine(const float* x, const float* importance, float most, std::byte* out) {
  Affine fit = fitted(x, importance, most);
  if (importance)
    store_affine(x, most, by_weight(fit.scale, fit.weight), by_weight(fit.minimum, fit.weight), fit.codes, out);
  else
    store_affine(x, most, by_largest(fit.scale), by_largest(fit.minimum), fit.codes, out);
  return fit.codes;
}

// Q6_K: x = d * scale * q, 16 sub-blocks of 16.
constexpr int kSmall = 16, kSmalls = kSuper / kSmall;
constexpr float kHalf6 = 32;

void search_symmetric(const float* x, const float* importance, int first, std::array<float, kSmalls>& scales, Codes& out) {
  const Groups<kSmall> v = groups_at<kSmall>(x + first * kSmall);
  Groups<kSmall> weights;
  if (importance)
    weights = groups_at<kSmall>(importance + first * kSmall);
  else
    for (int j = 0; j < kSmall; ++j) weights.of[j] = v.of[j] * v.of[j];
  const auto fit = fit_symmetric(v, weights, kHalf6);
  for (int lane = 0; lane < kLanes; ++lane) {
    scales[static_cast<std::size_t>(first + lane)] = fit.scale[lane];
    for (int j = 0; j < kSmall; ++j)
      out[static_cast<std::size_t>((first + lane) * kSmall + j)] = static_cast<std::uint8_t>(fit.codes.of[j][lane]);
  }
}

void block_q4_k(const float* x, const float* importance, std::byte* out) {
  store_nibbles(encode_affine(x, importance, 15, out), out + 16);
}

void block_q5_k(const float* x, const float* importance, std::byte* out) {
  const Codes codes = encode_affine(x, importance, 31, out);
  for (std::size_t j = 0; j < 32; ++j) {
    unsigned bits = 0;
    for (std::size_t k = 0; k < kSubs; ++k) bits |= (codes[32 * k + j] >> 4u) << k;
    out[16 + j] = static_cast<std::byte>(bits);
  }
  store_nibbles(codes, out + 48);
}

void block_q6_k(const float* x, const float* importance, std::byte* out) {
  std::array<float, kSmalls> scales;
  Codes codes;
  for (int first = 0; first < kSmalls; first += kLanes) search_symmetric(x, importance, first, scales, codes);
  float largest = 0;
  for (const float scale : scales) largest = std::fabs(scale) > std::fabs(largest) ? scale : largest;
  if (std::fabs(largest) < kNothing) {
    std::memset(out, 0, 210);
    return;
  }
  const float inverse = -128 / largest, d = rounded_to_half(1 / inverse);
  store16(out + 208, 1 / inverse);
  for (std::size_t j = 0; j < kSmalls; ++j) {
    const float scale = clamped(nearest(inverse * scales[j]), -128, 127), step = d * scale;
    out[192 + j] = static_cast<std::byte>(static_cast<std::int8_t>(scale));
    if (step == 0) continue;
    for (std::size_t i = j * kSmall; i < (j + 1) * kSmall; ++i)
      codes[i] = static_cast<std::uint8_t>(clamped(nearest(x[i] / step), -kHalf6, kHalf6 - 1) + kHalf6);
  }
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint8_t* c = codes.data() + 128 * half;
    for (std::size_t j = 0; j < 32; ++j) {
      out[64 * half + j] = static_cast<std::byte>((c[j] & 15) | (c[64 + j] & 15) << 4);
      out[64 * half + 32 + j] = static_cast<std::byte>((c[32 + j] & 15) | (c[96 + j] & 15) << 4);
      out[128 + 32 * half + j] =
          static_cast<std::byte>(c[j] >> 4 | (c[32 + j] >> 4) << 2 | (c[64 + j] >> 4) << 4 | (c[96 + j] >> 4) << 6);
    }
  }
}

template <void (*block)(const float*, const float*, std::byte*)>
void blocks(const float* x, const float* importance, std::int64_t n, int bytes, std::byte* out) {
  for (std::int64_t i = 0; i < n; i += kSuper, out += bytes) block(x + i, importance ? importance + i : nullptr, out);
}

}  // namespace

[[gnu::flatten]] GRAFT_SIMD void row_q4_k(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  blocks<block_q4_k>(x, importance, n, 144, out);
}
[[gnu::flatten]] GRAFT_SIMD void row_q5_k(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  blocks<block_q5_k>(x, importance, n, 176, out);
}
[[gnu::flatten]] GRAFT_SIMD void row_q6_k(const float* x, const float* importance, std::int64_t n, std::byte* out) {
  blocks<block_q6_k>(x, importance, n, 210, out);
}

}  // namespace graft::exports::detail
