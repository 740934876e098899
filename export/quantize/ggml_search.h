// The scales of small groups of weights by trying grids: for each, the scale (and minimum) that fit its codes best by weighted
// least squares (llama.cpp ggml-quants.c: make_qkx2_quants, make_qkx3_quants, make_qx_quants). Groups are independent: eight are
// searched at a time, one per SIMD lane, so that the sums of each keep the reference's order and the result its bits.
#pragma once

#include <cmath>

namespace graft::exports::detail {

inline constexpr int kLanes = 8;
using Lanes = float __attribute__((vector_size(32)));

inline Lanes all(float value) { return Lanes{} + value; }
inline Lanes absolute(Lanes v) { return v < 0 ? -v : v; }
inline Lanes nearest(Lanes v) { return (v + 0x1.8p23f) - 0x1.8p23f; }  // ties to even, up to 2^22
inline float nearest(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }
inline Lanes clamped(Lanes v, float low, float high) {  // NaN becomes low
  v = v > low ? v : all(low);
  return v < high ? v : all(high);
}
inline float clamped(float v, float low, float high) { return v > low ? (v < high ? v : high) : low; }

template <int size>
struct Groups {
  Lanes of[size];  // element j of kLanes consecutive groups
};

template <int size>
Groups<size> groups_at(const float* x) {
  Groups<size> groups;
  for (int j = 0; j < size; ++j)
    for (int lane = 0; lane < kLanes; ++lane) groups.of[j][lane] = x[lane * size + j];
  return groups;
}

struct Grids {  // the grids tried: (most + first + k step) codes over the range, k = 0 .. count
  float most, first, step;
  int count;
};

template <int size>
struct AffineFit {
  Lanes scale, minimum;  // x = scale q - minimum
  Lanes weight;          // of the group
  Groups<size> codes;    // 0 .. most
};

// Minimises sum w (s q - m - x)^2, m >= 0.
template <int size>
AffineFit<size> fit_affine(const Groups<size>& x, const Groups<size>& w, const Grids& grids) {
  const Lanes *v = x.of, *weight = w.of;
  Groups<size> best_codes = {}, codes = {};
  Lanes low = v[0], high = v[0], sum_w = weight[0], sum_x = weight[0] * v[0];
  for (int j = 1; j < size; ++j) {
    low = v[j] < low ? v[j] : low;
    high = v[j] > high ? v[j] : high;
    sum_w += weight[j];
    sum_x += weight[j] * v[j];
  }
  low = low > 0 ? all(0) : low;
  const auto flat = high == low;

  Lanes inverse = grids.most / (high - low), scale = 1 / inverse, best = all(0);
  for (int j = 0; j < size; ++j) {
    best_codes.of[j] = clamped(nearest(inverse * (v[j] - low)), 0, grids.most);
    const Lanes error = scale * best_codes.of[j] + low - v[j];
    best += weight[j] * (error * error);
  }
  for (int k = 0; k <= grids.count; ++k) {
    inverse = (grids.first + grids.step * static_cast<float>(k) + grids.most) / (high - low);
    Lanes sum_l = all(0), sum_l2 = all(0), sum_xl = all(0);
    for (int j = 0; j < size; ++j) {
      const Lanes code = clamped(nearest(inverse * (v[j] - low)), 0, grids.most);
      codes.of[j] = code;
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
    for (int j = 0; j < size; ++j) {
      const Lanes difference = fit_scale * codes.of[j] + fit_low - v[j];
      error += weight[j] * (difference * difference);
    }
    const auto better = (determinant > 0) & (error < best);
    for (int j = 0; j < size; ++j) best_codes.of[j] = better ? codes.of[j] : best_codes.of[j];
    best = better ? error : best;
    scale = better ? fit_scale : scale;
    low = better ? fit_low : low;
  }
  for (int j = 0; j < size; ++j) best_codes.of[j] = flat ? all(0) : best_codes.of[j];
  return {flat ? all(0) : scale, -low, sum_w, best_codes};
}

template <int size>
struct SymmetricFit {
  Lanes scale;         // x = scale (q - half); 0 for groups smaller than kNothing
  Groups<size> codes;  // 0 .. 2 half - 1; 0 where the scale is
};

inline constexpr float kNothing = 1e-15f;

// Minimises sum w (s q - x)^2.
template <int size>
SymmetricFit<size> fit_symmetric(const Groups<size>& x, const Groups<size>& w, float half) {
  const Lanes *v = x.of, *weight = w.of;
  Groups<size> weighted, codes;
  Lanes magnitude = all(0), largest = all(0);
  for (int j = 0; j < size; ++j) {
    weighted.of[j] = weight[j] * v[j];
    const auto larger = absolute(v[j]) > magnitude;
    largest = larger ? v[j] : largest;
    magnitude = larger ? absolute(v[j]) : magnitude;
  }
  Lanes scale = all(0), best = all(0), best_inverse = all(0);
  for (int k = -10; k <= 9; ++k) {  // the plain grid, then nine on each side of it
    if (k == 0) continue;
    const bool plain = k == -10;
    const Lanes inverse = (plain ? -half : -(half + 0.1f * static_cast<float>(k))) / largest;
    Lanes sum_lx = all(0), sum_l2 = all(0);
    for (int j = 0; j < size; ++j) {
      const Lanes code = clamped(nearest(inverse * v[j]), -half, half - 1);
      sum_lx += weighted.of[j] * code;
      sum_l2 += weight[j] * code * code;
    }
    const auto better = plain ? magnitude >= 0 : (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
    const Lanes fit = sum_l2 == 0 ? all(0) : sum_lx / sum_l2;
    best_inverse = better ? inverse : best_inverse;
    scale = better ? fit : scale;
    best = better ? fit * sum_lx : best;
  }
  const auto zero = magnitude < kNothing;
  for (int j = 0; j < size; ++j) {
    const Lanes code = clamped(nearest(best_inverse * v[j]), -half, half - 1);
    codes.of[j] = zero ? all(0) : code + half;
  }
  return {zero ? all(0) : scale, codes};
}

}  // namespace graft::exports::detail
