#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/gguf.h"
#include "core/half.h"
#include "core/simd.h"

namespace graft {
namespace {

void store16(std::byte* out, std::uint16_t value) { std::memcpy(out, &value, sizeof value); }

// Half away from zero, |v| < 2^31; std::round in a form that is vectorised.
int rounded(float v) {
  const int whole = static_cast<int>(v);
  const float rest = v - static_cast<float>(whole);  // exact
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

// d = max|x| / 127 as f16; q = round half away from zero of x * (1/d), with d still in f32 (gguf.quants.Q8_0).
void block_q8_0(const float* x, std::byte* out) {
  float largest = 0;
  int infinite = 0;
#pragma omp simd reduction(max : largest) reduction(| : infinite)
  for (int j = 0; j < 32; ++j) {
    const float size = std::fabs(x[j]);
    largest = size > largest ? size : largest;
    infinite |= !(size <= std::numeric_limits<float>::max());
  }
  if (infinite) throw DataError("a weight is not finite; Q8_0 cannot hold it");
  const float d = largest / 127;
  const float reciprocal = 1 / d;  // infinite for d = 0 and for subnormal d, which f16 holds as zero in any case
  const float inverse = std::isfinite(reciprocal) ? reciprocal : 0;
  store16(out, f16_from_f32(d));
  std::int8_t codes[32];
#pragma omp simd
  for (int j = 0; j < 32; ++j) codes[j] = static_cast<std::int8_t>(rounded(x[j] * inverse));
  std::memcpy(out + 2, codes, sizeof codes);
}

constexpr std::int64_t kPiece = 1 << 10;

template <std::uint16_t (*convert)(float)>
void to_16_bits(const float* x, std::int64_t n, std::byte* out) {
  std::uint16_t piece[kPiece];
  for (std::int64_t begin = 0; begin < n; begin += kPiece) {
    const std::int64_t count = std::min(kPiece, n - begin);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) piece[i] = convert(x[begin + i]);
    std::memcpy(out + 2 * begin, piece, static_cast<std::size_t>(2 * count));
  }
}

}  // namespace

[[gnu::flatten]] GRAFT_SIMD void quantize(GgmlType type, const float* source, std::int64_t n, std::byte* out) {
  switch (type) {
    case GgmlType::f32:
      std::memcpy(out, source, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case GgmlType::f16:
      return to_16_bits<f16_from_f32>(source, n, out);
    case GgmlType::bf16:
      return to_16_bits<bf16_from_f32>(source, n, out);
    case GgmlType::q8_0:
      for (std::int64_t i = 0; i < n / 32; ++i) block_q8_0(source + 32 * i, out + 34 * i);
      return;
    default:
      throw UnsupportedError(cat("weights cannot be written as ", info_of(type).name, "; choose F16, BF16 or Q8_0"));
  }
}

}  // namespace graft
