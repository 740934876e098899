// The vectorised loops of exports against plain ones, bit for bit.
#include <cmath>
#include <limits>
#include <random>

#include "export/quantize/halves.h"
#include "export/quantize/range.h"
#include "model/scaled_codes.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

using namespace graft;
using graft::testing::same_bits;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int kBlock = 32;

bool same(float a, float b) { return std::signbit(a) == std::signbit(b) && (a == b || (std::isnan(a) && std::isnan(b))); }

float plain_signed_largest(const std::array<float, kBlock>& x) {
  float largest = 0;
  for (const float value : x) largest = std::fabs(value) > std::fabs(largest) ? value : largest;
  return largest;
}

void check_range(const std::array<float, kBlock>& x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const exports::Range range = exports::range_of<kBlock>(x.data());
  CHECK(same(range.low, *low));
  CHECK(same(range.high, *high));
  CHECK(same(exports::signed_largest<kBlock>(x.data()), plain_signed_largest(x)));
}

}  // namespace

TEST_CASE("ranges are those of plain loops, with ties and signed zeros", "[export][loops]") {
  std::mt19937 random(1);
  std::array<float, kBlock> x{};
  check_range(x);
  for (int round = 0; round < 200; ++round) {
    const int levels = 1 + round % 5;  // few levels: ties of both signs, zeros of both
    for (float& value : x) {
      const float size = static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(levels)));
      value = random() % 2 == 0 ? size : -size;
    }
    check_range(x);
    for (float& value : x) value = std::fabs(value);
    check_range(x);
    for (float& value : x) value = -value;
    check_range(x);
  }
}

TEST_CASE("the largest magnitude is infinite where a value is not finite", "[export][loops]") {
  for (const std::int64_t n : {1, 7, 16, 33, 1000}) {
    std::vector<float> x(static_cast<std::size_t>(n), 0.5f);
    x.back() = -3;
    CHECK(exports::largest_magnitude(x.data(), n) == 3);
    for (const float bad : {kInfinity, -kInfinity, kNaN})
      for (const std::size_t at : {std::size_t{0}, x.size() - 1}) {
        std::vector<float> y = x;
        y[at] = bad;
        CHECK(exports::largest_magnitude(y.data(), n) == kInfinity);
      }
  }
  CHECK(exports::largest_magnitude(nullptr, 0) == 0);
}

TEST_CASE("weights in 16 bits are LibTorch's", "[export][loops]") {
  at::manual_seed(5);
  at::Tensor x = at::randn({7, 1001}, at::kFloat) * at::exp(8 * at::randn({7, 1001}, at::kFloat));
  x.flatten().narrow(0, 3, 4).copy_(at::tensor({kInfinity, -0.0f, 65520.0f, 0x1.8p-25f}));
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const exports::Halves halves = exports::to_halves(x.t(), type);
    CHECK(halves.stored.scalar_type() == type);
    const at::Tensor stored = x.t().to(type).contiguous();
    CHECK(same_bits(halves.stored, stored));
    CHECK(same_bits(halves.values, stored.to(at::kFloat)));
  }
}

TEST_CASE("codes by groups stand for (code - zero) scale", "[export][loops]") {
  at::manual_seed(6);
  const std::int64_t rows = 5, groups = 3, size = 40;
  const at::Tensor codes = at::randint(-8, 8, {rows, groups * size}, at::kFloat), scale = at::rand({rows, groups}, at::kFloat),
                   zero = at::randint(-8, 8, {rows, groups}, at::kFloat);
  const auto plain = [&](const at::Tensor& shift) {
    const at::Tensor grouped = codes.view({rows, groups, size});
    return ((grouped - shift.unsqueeze(2)) * scale.unsqueeze(2)).view({rows, groups * size});
  };
  for (const at::Tensor& given : {codes, codes.to(at::kChar)}) {
    CHECK(same_bits(model::scaled_codes(given, scale, zero), plain(zero)));
    CHECK(same_bits(model::scaled_codes(given, scale, {}), plain(at::zeros_like(zero))));
    CHECK(same_bits(model::scaled_codes(given, scale.t().contiguous().t(), zero), plain(zero)));
  }
}
