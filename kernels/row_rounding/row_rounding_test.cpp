#include "kernels/row_rounding/row_rounding.h"

#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

// The nearest value of e4m3: 3 bits of mantissa, exponents from -6, below them steps of 2^-9. f64.
double nearest_e4m3(double x) {
  if (x == 0) return 0;
  const int exponent = std::max(std::ilogb(x), -6);
  const double step = std::ldexp(1, exponent - 3);
  return std::nearbyint(x / step) * step;
}

TEST_CASE("rows are rounded to 8 bits as a server rounds them", "[row_rounding]") {
  at::Tensor x = random({5, 67}, 3) * at::tensor({1.0f, 1e4f, 1e-4f, 3.0f, 1.0f}).unsqueeze(1);
  x[3].zero_();
  x[4][10] = 900;  // an outlier takes the grid of its row, not of the others
  const at::Tensor wide = x.to(at::kDouble);
  for (const RowRounding rounding : {RowRounding::int8, RowRounding::fp8}) {
    const at::Tensor y = rounded_rows(x, rounding).to(at::kDouble);
    for (std::int64_t t = 0; t < 5; ++t) {
      const double largest = wide[t].abs().max().item<double>();
      const double scale = largest == 0 ? 1 : largest / (rounding == RowRounding::int8 ? 127 : 448);
      for (std::int64_t k = 0; k < 67; ++k) {
        const double value = wide[t][k].item<double>(), got = y[t][k].item<double>();
        const double code = rounding == RowRounding::int8 ? std::nearbyint(value / scale) : nearest_e4m3(value / scale);
        const double below = rounding == RowRounding::int8 ? 1 : std::max(std::fabs(code), std::ldexp(1, -6)) / 8;
        INFO(t << " " << k << " " << value << " " << got);
        // A value between two codes may go either way in f32: it is as near to one as to the other.
        const bool tie = std::fabs(std::fabs(value - code * scale) - below * scale / 2) < 1e-5 * largest;
        CHECK((std::fabs(got - code * scale) <= 1e-6 * largest || (tie && std::fabs(got - value) <= 0.51 * below * scale)));
      }
    }
  }
}

TEST_CASE("rows on one scale for all are rounded to its multiples, and saturate", "[row_rounding]") {
  const float scale = 0.37f;
  at::Tensor x = random({4, 33}, 6) * at::tensor({1.0f, 1e3f, 1e-3f, 0.0f}).unsqueeze(1);
  x[0][5] = std::numeric_limits<float>::quiet_NaN();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor given = x.to(type), y = rounded_rows(given, RowRounding::fp8, scale).to(at::kDouble);
    CHECK(y[0].isnan().all().item<bool>());
    for (std::int64_t t = 1; t < 4; ++t)
      for (std::int64_t k = 0; k < 33; ++k) {
        const double value = given[t][k].item<double>(), code = std::clamp(value / scale, -448.0, 448.0);
        const double step = std::max(std::exp2(std::floor(std::log2(std::max(std::fabs(code), 1e-30)))), 0x1p-6) / 8;
        INFO(t << " " << k << " " << value);
        // Half a step, and what storing the result in bf16 changes.
        CHECK(std::fabs(y[t][k].item<double>() - code * scale) <=
              (0.5 * step + 1e-5 * std::fabs(code) + (type == at::kFloat ? 0 : std::fabs(code) / 256)) * scale);
        CHECK(std::fabs(y[t][k].item<double>()) <= 448 * scale * (type == at::kFloat ? 1 + 1e-6 : 1 + 1.0 / 256));
      }
    CHECK(y[3].abs().max().item<double>() == 0);
  }
}

TEST_CASE("by 128 columns, each part of a row is rounded as a row of its own", "[row_rounding]") {
  at::Tensor x = random({3, 300}, 7);
  x[1][5] = 1e3;  // an outlier takes the grid of its part
  x[2][290] = std::numeric_limits<float>::infinity();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor given = x.to(type), y = rounded_rows(given, RowRounding::fp8_by_128);
    REQUIRE(y.sizes() == x.sizes());
    CHECK(y.is_contiguous());
    for (const auto& [begin, count] : {std::pair{0, 128}, {128, 128}, {256, 44}}) {
      const at::Tensor part = y.narrow(1, begin, count), expected = rounded_rows(given.narrow(1, begin, count), RowRounding::fp8);
      CHECK(at::allclose(part, expected, 0, 0, true));
    }
    CHECK(y[2].isnan().sum().item<std::int64_t>() == 44);
  }
}

TEST_CASE("rounding of rows: nothing, strides, bf16 and values that are not finite", "[row_rounding]") {
  const at::Tensor x = random({4, 16}, 4);
  CHECK(rounded_rows(x, RowRounding::none).is_same(x));
  CHECK(rounded_rows(at::empty({0, 16}), RowRounding::int8).sizes() == at::IntArrayRef({0, 16}));
  const at::Tensor wide = random({4, 32}, 5, at::kBFloat16), half = wide.narrow(1, 8, 16);
  const at::Tensor y = rounded_rows(half, RowRounding::int8);
  CHECK(y.scalar_type() == at::kBFloat16);
  CHECK(at::equal(y, rounded_rows(half.clone(), RowRounding::int8)));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    at::Tensor broken = x.clone();
    broken[1][3] = bad;
    const at::Tensor out = rounded_rows(broken, RowRounding::fp8);
    CHECK(out[1].isnan().all().item<bool>());
    CHECK_FALSE(out[0].isnan().any().item<bool>());
  }
}

}  // namespace
}  // namespace graft::kernels
