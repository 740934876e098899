#include "export/compare.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>

#include "core/error.h"
#include "core/simd.h"
#include "export/quantize/range.h"

namespace graft::exports {
namespace {

constexpr float kHalfUlpBf16 = 0x1p-8f, kHalfUlpF16 = 0x1p-11f, kHalfSubnormalF16 = 0x1p-25f;
constexpr float kHalfSubnormalBf16 = 0x1p-134f;
constexpr int kBlock = 32;
constexpr std::int64_t kChunk = 1 << 12, kGrain = 1 << 16;  // elements whose bounds lie on the stack; that one thread takes
// The rounding of the decoded product or sum itself, in f32.
constexpr float kDecoding = 1 + 0x1p-20f;

// f16 holds a scale or minimum within this.
[[gnu::always_inline]] inline float half_error(float d) { return std::fabs(d) * kHalfUlpF16 + kHalfSubnormalF16; }
// What `codes` times a scale in f16 may be off by; x/d itself is computed within 3 roundings of f32.
[[gnu::always_inline]] inline float codes_error(float step, float codes) { return codes * (half_error(step) + step * 0x1p-22f); }

[[gnu::always_inline]] inline float largest_of(const float* x) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int j = 0; j < kBlock; ++j) largest = std::fabs(x[j]) > largest ? std::fabs(x[j]) : largest;
  return largest;
}

[[gnu::always_inline]] inline void q8_0(const float* x, float* out) {
  const float step = largest_of(x) / 127;
  std::fill_n(out, kBlock, (step / 2 + codes_error(step, 127)) * kDecoding);
}

template <int codes>
[[gnu::always_inline]] inline void symmetric(const float* x, float* out) {
  const float largest = signed_largest<kBlock>(x), step = std::fabs(largest) / codes, sign = largest < 0 ? -1.0f : 1.0f;
  const float rounding = codes_error(step, codes);
  for (int j = 0; j < kBlock; ++j) {
    const float beyond = -x[j] * sign - (codes - 1) * step;  // on the side of the shorter range
    out[j] = ((beyond > step / 2 ? beyond : step / 2) + rounding) * kDecoding;
  }
}

template <int codes>
[[gnu::always_inline]] inline void affine(const float* x, float* out) {
  const auto [low, high] = range_of<kBlock>(x);
  const float step = (high - low) / codes;
  // The sum of two products: relative to them, not to what is left of it.
  const float bound =
      step / 2 + codes_error(step, codes) + half_error(low) + (std::fabs(low) + static_cast<float>(codes) * step) * 0x1p-22f;
  std::fill_n(out, kBlock, bound * kDecoding);
}

using Bounds = void (*)(const float* x, std::int64_t n, float* out);

GRAFT_SIMD void of_f32(const float*, std::int64_t n, float* out) { std::fill_n(out, n, 0.0f); }

// Relative to the value, and no less than what the smallest numbers are apart.
[[gnu::always_inline]] inline void to_nearest(const float* x, std::int64_t n, float relative, float least, float* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float bound = std::fabs(x[i]) * relative;
    out[i] = bound > least ? bound : least;
  }
}
GRAFT_SIMD void of_bf16(const float* x, std::int64_t n, float* out) { to_nearest(x, n, kHalfUlpBf16, kHalfSubnormalBf16, out); }
GRAFT_SIMD void of_f16(const float* x, std::int64_t n, float* out) { to_nearest(x, n, kHalfUlpF16, kHalfSubnormalF16, out); }

template <void (*block)(const float*, float*)>
[[gnu::always_inline]] inline void by_blocks(const float* x, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i + kBlock <= n; i += kBlock) block(x + i, out + i);
}
GRAFT_SIMD void of_q8_0(const float* x, std::int64_t n, float* out) { by_blocks<q8_0>(x, n, out); }
GRAFT_SIMD void of_q4_0(const float* x, std::int64_t n, float* out) { by_blocks<symmetric<8>>(x, n, out); }
GRAFT_SIMD void of_q5_0(const float* x, std::int64_t n, float* out) { by_blocks<symmetric<16>>(x, n, out); }
GRAFT_SIMD void of_q4_1(const float* x, std::int64_t n, float* out) { by_blocks<affine<15>>(x, n, out); }
GRAFT_SIMD void of_q5_1(const float* x, std::int64_t n, float* out) { by_blocks<affine<31>>(x, n, out); }

struct Kind {
  const char* type;
  Bounds bounds;
};
constexpr std::array kKinds = {Kind{"F32", of_f32},   Kind{"BF16", of_bf16}, Kind{"F16", of_f16},   Kind{"Q8_0", of_q8_0},
                               Kind{"Q4_0", of_q4_0}, Kind{"Q5_0", of_q5_0}, Kind{"Q4_1", of_q4_1}, Kind{"Q5_1", of_q5_1}};

Bounds bounds_of(const std::string& stored_as) {
  for (const Kind& kind : kKinds)
    if (stored_as == kind.type) return kind.bounds;
  throw UnsupportedError(cat("no rounding bound is known for tensors stored as ", stored_as));
}

constexpr float kLargest = std::numeric_limits<float>::max();

// NaN is not good.
template <bool bounded>
[[gnu::always_inline]] inline bool is_good(float source, float written, float limit) {
  return bounded ? std::fabs(written - source) <= limit : std::fabs(written) <= kLargest;
}

using Good = bool (*)(const float* source, const float* written, const float* limit, std::int64_t n, Comparison& found);

// Whether all are good; the largest of `found` grow with those seen.
template <bool bounded>
[[gnu::always_inline]] inline bool all_good(const float* source, const float* written, const float* limit, std::int64_t n,
                                            Comparison& found) {
  float difference = found.difference, largest = found.largest;
  int bad = 0;
#pragma omp simd reduction(max : difference, largest) reduction(| : bad)
  for (std::int64_t i = 0; i < n; ++i) {
    const float off = std::fabs(written[i] - source[i]), size = std::fabs(source[i]);
    bad |= is_good<bounded>(source[i], written[i], limit[i]) ? 0 : 1;
    difference = off > difference ? off : difference;
    largest = size > largest ? size : largest;
  }
  found.difference = difference;
  found.largest = largest;
  return bad == 0;
}

GRAFT_SIMD bool all_within(const float* source, const float* written, const float* limit, std::int64_t n, Comparison& found) {
  return all_good<true>(source, written, limit, n, found);
}
GRAFT_SIMD bool all_finite(const float* source, const float* written, const float* limit, std::int64_t n, Comparison& found) {
  return all_good<false>(source, written, limit, n, found);
}

}  // namespace

void rounding_bounds(const std::string& stored_as, const float* x, std::int64_t n, float* out) {
  bounds_of(stored_as)(x, n, out);
}

Comparison compare_values(const std::string& stored_as, const float* source, const float* written, std::int64_t n) {
  const Bounds bounds = stored_as.empty() ? nullptr : bounds_of(stored_as);
  Comparison result;
  std::mutex mutex;
  at::parallel_for(0, (n + kChunk - 1) / kChunk, kGrain / kChunk, [&](std::int64_t first, std::int64_t last) {
    Comparison own;
    std::array<float, kChunk> bound{};
    for (std::int64_t chunk = first; chunk < last; ++chunk) {
      const std::int64_t begin = chunk * kChunk, count = std::min(kChunk, n - begin);
      const float *x = source + begin, *y = written + begin;
      if (bounds != nullptr) bounds(x, count, bound.data());
      const Good all = bounds != nullptr ? all_within : all_finite;
      if (all(x, y, bound.data(), count, own) || own.outside >= 0) continue;
      const auto good = bounds != nullptr ? is_good<true> : is_good<false>;
      std::int64_t at = 0;
      while (good(x[at], y[at], bound[static_cast<std::size_t>(at)])) ++at;
      own.outside = begin + at;
    }
    const std::lock_guard lock(mutex);
    result.difference = std::max(result.difference, own.difference);
    result.largest = std::max(result.largest, own.largest);
    if (own.outside >= 0 && (result.outside < 0 || own.outside < result.outside)) result.outside = own.outside;
  });
  return result;
}

Comparison compare_rows(const std::string& tensor, const std::string& stored_as, std::int64_t begin, const at::Tensor& source,
                        const at::Tensor& written) {
  const at::Tensor from = source.contiguous(), to = written.contiguous();
  const auto *x = from.const_data_ptr<float>(), *y = to.const_data_ptr<float>();
  const Comparison found = compare_values(stored_as, x, y, from.numel());
  if (found.outside < 0) return found;
  const float value = y[found.outside];
  throw FormatError(
      cat("tensor ", tensor, stored_as.empty() ? "" : cat(" (", stored_as, ")"), " reads back as ", value, " at element ",
          begin * (from.numel() / std::max<std::int64_t>(1, from.size(0))) + found.outside, " where the source has ",
          x[found.outside],
          !std::isfinite(value) ? "; the value does not fit f16, choose a bf16 format" : "; that is more than rounding"));
}

}  // namespace graft::exports
