// The loops of codes.h for one instruction set. Included by codes_<isa>.cpp alone, which are compiled with that set's flags:
// nothing here may be an inline function that another file could share (hence the unnamed namespace).
#pragma once

#include "kernels/cpu/codes.h"
#include "kernels/lanes.h"

namespace graft::kernels::cpu {
namespace {

constexpr float kSmallest = 0x1p-100f;  // its inverse is a number
constexpr std::uint8_t kZero = 128;

inline float value(float x) { return x; }
inline float value(Bf16Bits x) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(x) << 16); }

template <class Element>
void widen(const Element* x, std::int64_t n, float* wide) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) wide[i] = value(x[i]);
}

// Sums where the bit of a lane's number is 0, differences where it is 1.
template <int kBit>
inline void butterfly(Lanes& x) {
  const Places partner = kPlace ^ (1 << kBit), sign = kPlace << (31 - kBit) & INT32_MIN;
  x = __builtin_shuffle(x, partner) + reinterpret_cast<Lanes>(reinterpret_cast<Places>(x) ^ sign);
}

template <class Element>
void rotate_lanes(const Element* x, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    Lanes lanes;
    load_lanes(lanes, x + i);
    butterfly<0>(lanes);
    butterfly<1>(lanes);
    butterfly<2>(lanes);
    butterfly<3>(lanes);
    std::memcpy(out + i, &lanes, sizeof lanes);
  }
}

// Four neighbouring groups of `size` values each, two levels at a time.
void rotate_groups(float* x, std::int64_t n, std::int64_t size) {
  for (std::int64_t begin = 0; begin < n; begin += 4 * size) {
    float *a = x + begin, *b = a + size, *c = b + size, *d = c + size;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) {
      const float sum = a[i] + b[i], difference = a[i] - b[i], sum2 = c[i] + d[i], difference2 = c[i] - d[i];
      a[i] = sum + sum2, b[i] = difference + difference2;
      c[i] = sum - sum2, d[i] = difference - difference2;
    }
  }
}

// x times R without its factor; returns 1 / sqrt(h).
template <class Element>
float rotate(const Element* x, std::int64_t n, float* out) {
  if (n % kLanes != 0) return widen(x, n, out), 1.f;
  rotate_lanes(x, n, out);
  std::int64_t groups = 1;
  while (groups < 16 && n / kLanes % (4 * groups) == 0) groups *= 4;
  for (std::int64_t size = n / groups; size < n; size *= 4) rotate_groups(out, n, size);
  return groups == 1 ? 0x1p-2f : groups == 4 ? 0x1p-3f : 0x1p-4f;
}

// At least kSmallest; of bits, so that a NaN is the largest of all.
float largest_magnitude(const float* x, std::int64_t n) {
  auto largest = __builtin_bit_cast(std::int32_t, kSmallest);
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t bits = __builtin_bit_cast(std::int32_t, x[i]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

void round_row(const float* x, std::int64_t n, float inverse, std::uint8_t* codes) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float shifted = x[i] * inverse + 12582912.f;  // the low byte of the sum is the rounded product
    codes[i] = static_cast<std::uint8_t>(__builtin_bit_cast(std::uint32_t, shifted) ^ kZero);
  }
}

template <class Element>
float codes_of(const Element* x, std::int64_t n, float* rotated, std::uint8_t* codes) {
  const float factor = rotate(x, n, rotated), largest = largest_magnitude(rotated, n);
  round_row(rotated, n, 127.f / largest, codes);
  return largest / 127.f * factor;
}

}  // namespace
}  // namespace graft::kernels::cpu
