// Super-blocks of 256 elements. The sub-blocks of one are independent: four are searched at a time, one per SIMD lane, so that
// the sums of each keep the reference's order and the result its bits.
#include <array>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "export/quantize/ggml.h"

namespace graft::exports::detail {
namespace {

constexpr int kSuper = 256, kLanes = 4;
constexpr float kNothing = 1e-15f;  // smaller groups are zero

using Lanes = float __attribute__((vector_size(16)));
using Codes = std::array<std::uint8_t, kSuper>;

Lanes all(float value) { return Lanes{value, value, value, value}; }
Lanes absolute(Lanes v) { return v < 0 ? -v : v; }
Lanes nearest(Lanes v) { return (v + 0x1.8p23f) - 0x1.8p23f; }  // ties to even, up to 2^22
float nearest(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }
Lanes clamped(Lanes v, float low, float high) {  // NaN becomes low
  v = v > low ? v : all(low);
  return v < high ? v : all(high);
}
float clamped(float v, float low, float high) { return v > low ? (v < high ? v : high) : low; }

void store16(std::byte* out, float value) {
  const std::uint16_t half = f16_from_f32(value);
  std::memcpy(out, &half, sizeof half);
}
float rounded_to_half(float value) { return f32_from_f16(f16_from_f32(value)); }

// Element j of kLanes consecutive groups of `size` elements.
template <int size>
void transpose(const float* x, Lanes* out) {
  for (int j = 0; j < size; ++j)
    for (int lane = 0; lane < kLanes; ++lane) out[j][lane] = x[lane * size + j];
}

// Q4_K and Q5_K: x = d * scale * q - dmin * minimum, 8 sub-blocks of 32.
constexpr int kSub = 32, kSubs = kSuper / kSub;

struct Grids {  // the grids tried: (most + first + k step) codes over the range, k = 0 .. count
  float most, first, step;
  int count;
};
constexpr Grids kGrids4 = {15, -1, 0.1f, 20}, kGrids5 = {31, -0.5f, 0.1f, 15};

struct Affine {
  std::array<float, kSubs> scale, minimum;  // x = scale q - minimum
  Codes codes;
};

void search(const float* x, const Grids& grids, int first, Affine& out) {
  Lanes v[kSub], weight[kSub], best_codes[kSub], codes[kSub];
  transpose<kSub>(x + first * kSub, v);
  Lanes squares = all(0), rms;
  for (const Lanes& value : v) squares += value * value;
  for (int lane = 0; lane < kLanes; ++lane) rms[lane] = std::sqrt(squares[lane] / kSub);
  for (int j = 0; j < kSub; ++j) weight[j] = rms + absolute(v[j]);

  Lanes low = v[0], high = v[0], sum_w = weight[0], sum_x = weight[0] * v[0];
  for (int j = 1; j < kSub; ++j) {
    low = v[j] < low ? v[j] : low;
    high = v[j] > high ? v[j] : high;
    sum_w += weight[j];
    sum_x += weight[j] * v[j];
  }
  low = low > 0 ? all(0) : low;
  const auto flat = high == low;

  Lanes inverse = grids.most / (high - low), scale = 1 / inverse, best = all(0);
  for (int j = 0; j < kSub; ++j) {
    best_codes[j] = clamped(nearest(inverse * (v[j] - low)), 0, grids.most);
    const Lanes error = scale * best_codes[j] + low - v[j];
    best += weight[j] * (error * error);
  }
  for (int k = 0; k <= grids.count; ++k) {
    inverse = (grids.first + grids.step * static_cast<float>(k) + grids.most) / (high - low);
    Lanes sum_l = all(0), sum_l2 = all(0), sum_xl = all(0);
    for (int j = 0; j < kSub; ++j) {
      const Lanes code = clamped(nearest(inverse * (v[j] - low)), 0, grids.most);
      codes[j] = code;
      sum_l += weight[j] * code;
      sum_l2 += weight[j] * code * code;
      sum_xl += weight[j] * code * v[j];
    }
    const Lanes determinant = sum_w * sum_l2 - sum_l * sum_l;
    Lanes fit_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    Lanes fit_low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    const auto above = fit_low > 0;
    fit_scale = above ? sum_xl / sum_l2 : fit_scale;
    fit_low = above ? all(0) : fit_low;
    Lanes error = all(0);
    for (int j = 0; j < kSub; ++j) {
      const Lanes difference = fit_scale * codes[j] + fit_low - v[j];
      error += weight[j] * (difference * difference);
    }
    const auto better = (determinant > 0) & (error < best);
    for (int j = 0; j < kSub; ++j) best_codes[j] = better ? codes[j] : best_codes[j];
    best = better ? error : best;
    scale = better ? fit_scale : scale;
    low = better ? fit_low : low;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    out.scale[static_cast<std::size_t>(first + lane)] = flat[lane] ? 0 : scale[lane];
    out.minimum[static_cast<std::size_t>(first + lane)] = -low[lane];
    for (int j = 0; j < kSub; ++j)
      out.codes[static_cast<std::size_t>((first + lane) * kSub + j)] =
          flat[lane] ? 0 : static_cast<std::uint8_t>(best_codes[j][lane]);
  }
}

float largest_of(const std::array<float, kSubs>& values) {
  float largest = 0;
  for (const float value : values) largest = value > largest ? value : largest;
  return largest;
}

// d | dmin | 12 bytes of 6-bit scales and minima; codes to nearest on the grid that these make.
void store_affine(const float* x, float most, Affine& fit, std::byte* out) {
  const float top_scale = largest_of(fit.scale), top_minimum = largest_of(fit.minimum);
  const float to_scale = top_scale > 0 ? 63 / top_scale : 0, to_minimum = top_minimum > 0 ? 63 / top_minimum : 0;
  store16(out, top_scale / 63);
  store16(out + 2, top_minimum / 63);
  const float d = rounded_to_half(top_scale / 63), dmin = rounded_to_half(top_minimum / 63);
  std::array<std::uint8_t, 12> packed{};
  for (std::size_t j = 0; j < kSubs; ++j) {
    // Minima below zero do not occur where zero is part of the range, but for rounding.
    const auto scale = static_cast<unsigned>(clamped(nearest(to_scale * fit.scale[j]), 0, 63));
    const auto minimum = static_cast<unsigned>(clamped(nearest(to_minimum * fit.minimum[j]), 0, 63));
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
      fit.codes[i] = static_cast<std::uint8_t>(clamped(nearest((x[i] + shift) / step), 0, most));
  }
  std::memcpy(out + 4, packed.data(), packed.size());
}

// Per 64 elements, 32 low nibbles, then 32 high ones.
void store_nibbles(const Codes& codes, std::byte* out) {
  for (std::size_t c = 0; c < kSuper / 64; ++c)
    for (std::size_t j = 0; j < 32; ++j)
      out[32 * c + j] = static_cast<std::byte>((codes[64 * c + j] & 15) | (codes[64 * c + 32 + j] & 15) << 4);
}

Affine fitted(const float* x, const Grids& grids) {
  Affine fit;
  for (int first = 0; first < kSubs; first += kLanes) search(x, grids, first, fit);
  return fit;
}

// Q6_K: x = d * scale * q, 16 sub-blocks of 16.
constexpr int kSmall = 16, kSmalls = kSuper / kSmall;
constexpr float kHalf6 = 32;

void search_symmetric(const float* x, int first, std::array<float, kSmalls>& scales, Codes& out) {
  Lanes v[kSmall], best_codes[kSmall], codes[kSmall];
  transpose<kSmall>(x + first * kSmall, v);
  Lanes magnitude = all(0), largest = all(0);
  for (const Lanes& value : v) {
    const auto larger = absolute(value) > magnitude;
    largest = larger ? value : largest;
    magnitude = larger ? absolute(value) : magnitude;
  }
  Lanes scale = all(0), best = all(0);
  for (int k = -10; k <= 9; ++k) {  // the plain grid, then nine on each side of it
    if (k == 0) continue;
    const bool plain = k == -10;
    const Lanes inverse = (plain ? -kHalf6 : -(kHalf6 + 0.1f * static_cast<float>(k))) / largest;
    Lanes sum_lx = all(0), sum_l2 = all(0);
    for (int j = 0; j < kSmall; ++j) {
      const Lanes code = clamped(nearest(inverse * v[j]), -kHalf6, kHalf6 - 1), weight = v[j] * v[j];
      codes[j] = code;
      sum_lx += weight * v[j] * code;
      sum_l2 += weight * code * code;
    }
    const auto better = plain ? magnitude >= 0 : (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
    const Lanes fit = sum_l2 == 0 ? all(0) : sum_lx / sum_l2;
    for (int j = 0; j < kSmall; ++j) best_codes[j] = better ? codes[j] : best_codes[j];
    scale = better ? fit : scale;
    best = better ? fit * sum_lx : best;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool zero = magnitude[lane] < kNothing;
    scales[static_cast<std::size_t>(first + lane)] = zero ? 0 : scale[lane];
    for (int j = 0; j < kSmall; ++j)
      out[static_cast<std::size_t>((first + lane) * kSmall + j)] =
          zero ? 0 : static_cast<std::uint8_t>(best_codes[j][lane] + kHalf6);
  }
}

}  // namespace

void block_q4_k(const float* x, std::byte* out) {
  Affine fit = fitted(x, kGrids4);
  store_affine(x, kGrids4.most, fit, out);
  store_nibbles(fit.codes, out + 16);
}

void block_q5_k(const float* x, std::byte* out) {
  Affine fit = fitted(x, kGrids5);
  store_affine(x, kGrids5.most, fit, out);
  for (std::size_t j = 0; j < 32; ++j) {
    unsigned bits = 0;
    for (std::size_t k = 0; k < kSubs; ++k) bits |= (fit.codes[32 * k + j] >> 4u) << k;
    out[16 + j] = static_cast<std::byte>(bits);
  }
  store_nibbles(fit.codes, out + 48);
}

void block_q6_k(const float* x, std::byte* out) {
  std::array<float, kSmalls> scales;
  Codes codes;
  for (int first = 0; first < kSmalls; first += kLanes) search_symmetric(x, first, scales, codes);
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

}  // namespace graft::exports::detail
