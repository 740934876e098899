#include "kernels/cpu/int8.h"

#include <cmath>
#include <random>

#include "kernels/cpu/gemm.h"
#include "tests/support/catch.h"
#include "tests/support/elements.h"
#include "tests/support/tensors.h"

namespace graft::kernels::cpu {
namespace {

using namespace graft::testing;

constexpr double kHalf = 0.5 * (1 + 0x1p-5);  // of a step: rounding to a code, and the rotation in f32

// A part of a wider matrix whose other elements are NaN: reading or writing beyond a row shows.
at::Tensor framed(const at::Tensor& x) {
  at::Tensor whole = at::full({x.size(0) + 1, x.size(1) + 6}, std::numeric_limits<double>::quiet_NaN(), x.options());
  at::Tensor part = whole.narrow(0, 0, x.size(0)).narrow(1, 2, x.size(1));
  part.copy_(x);
  return part;
}

template <class Element>
Int8Rows rows_of(const at::Tensor& x) {
  return {data<Element>(x), x.stride(0), x.size(0), x.size(1)};
}
template <class Element>
Int8Matrix matrix_of(const at::Tensor& w) {
  return {data<Element>(w), w.stride(0), w.size(0), w.size(1)};
}

at::Tensor hadamard(std::int64_t order) {
  at::Tensor h = at::ones({1, 1}, at::kDouble);
  for (; h.size(0) < order;) h = at::cat({at::cat({h, h}, 1), at::cat({h, -h}, 1)});
  return h;
}

// x R in f64, by products with whole matrices.
at::Tensor rotated(const at::Tensor& x) {
  const std::int64_t m = x.size(0), n = x.size(1);
  at::Tensor y = x.to(at::kDouble);
  if (n % 16 != 0) return y;
  std::int64_t order = 16;
  while (order < 256 && n % (4 * order) == 0) order *= 4;
  y = y.reshape({m, order / 16, n / order, 16}).matmul(hadamard(16));
  y = y.transpose(1, 3).matmul(hadamard(order / 16)).transpose(1, 3);
  return y.reshape({m, n}) / std::sqrt(static_cast<double>(order));
}

// (rows) in f64: largest magnitude / 127.
at::Tensor steps_of(const at::Tensor& rotated) {
  return rotated.size(0) == 0 ? at::zeros({0}, at::kDouble) : rotated.abs().amax(1).clamp_min(0x1p-100) / 127;
}

// What each element of X W^T may be off by (int8.h).
at::Tensor bound(const at::Tensor& x, const at::Tensor& w) {
  const at::Tensor xr = rotated(x), wr = rotated(w), sx = steps_of(xr).unsqueeze(1), sw = steps_of(wr).unsqueeze(0);
  const at::Tensor of_x = sx * wr.abs().sum(1).unsqueeze(0), of_w = sw * xr.abs().sum(1).unsqueeze(1);
  return kHalf * (of_x + of_w + sx * sw * (kHalf * static_cast<double>(x.size(1))));
}

// Every part of each kind of value that rows of activations and gradients have.
at::Tensor mixed(std::int64_t rows, std::int64_t columns, std::uint64_t seed, at::ScalarType type) {
  at::Tensor x = random({rows, columns}, seed);
  if (rows > 1) x[1].fill_(0);
  if (rows > 2) x[2].mul_(1e4).clamp_(-1e4, 1e4);
  if (rows > 3) x[3].mul_(1e-15);
  if (rows > 4) x[4][columns / 2] = -1e4;  // one outlier
  return x.to(type);
}

template <class Element>
void check_rows() {
  for (const std::int64_t columns : {1, 3, 4, 31, 48, 64, 130, 768}) {
    const at::Tensor x = framed(mixed(20, columns, 1, kType<Element>)), exact = rotated(x), steps = steps_of(exact);
    const Int8Rows rows = rows_of<Element>(x);
    REQUIRE(rows.stride() % 4 == 0);
    double worst = 0;
    for (std::int64_t i = 0; i < 20; ++i) {
      const double step = steps[i].item<double>();
      if (step > 0x1p-99) CHECK(static_cast<double>(rows.scales()[i]) == Approx(step).epsilon(1e-5));
      for (std::int64_t j = 0; j < (columns + 3) / 4 * 4; ++j) {
        const int code = rows.codes(i)[j] - 128;
        if (j >= columns) CHECK(code == 0);
        if (j < columns) worst = std::max(worst, std::abs(exact[i][j].item<double>() / step - code));
        CHECK((code >= -127 && code <= 127));
      }
    }
    CHECK(worst <= kHalf);
  }
}

template <class Element>
void check_products() {
  const at::ScalarType type = kType<Element>;
  const double rounding = type == at::kFloat ? 0x1p-20 : 0x1p-8;
  for (const std::int64_t m : {0, 1, 5, 6, 7, 49, 253})
    for (const std::int64_t n : {1, 15, 16, 17, 64, 65, 130})
      for (const std::int64_t k : {1, 3, 4, 5, 63, 64, 130, 256, 3000}) {
        INFO("M " << m << ", N " << n << ", K " << k << ", " << c10::toString(type));
        const at::Tensor x = framed(mixed(m, k, 1, type)), w = framed(mixed(n, k, 2, type));
        const at::Tensor s = framed(random({m, 4}, 3, type)), b = framed(random({n, 4}, 4, type)), bias = random({n}, 5, type);
        at::Tensor out = framed(random({m, n}, 6, type)), frame = out.as_strided({m + 1, n + 6}, {out.stride(0), 1}, 0);
        const at::Tensor before = frame.isnan(), exact = x.to(at::kDouble).mm(w.to(at::kDouble).t());
        const at::Tensor low = s.to(at::kDouble).mm(b.to(at::kDouble).t()), was = out.to(at::kDouble);
        const Int8Rows left = rows_of<Element>(x);
        const Int8Matrix right = matrix_of<Element>(w);
        const auto off = [&](const at::Tensor& got, const at::Tensor& want, const at::Tensor& sizes) {
          const at::Tensor difference = (got.to(at::kDouble) - want).abs(),
                           most = bound(x, w) * (1 + rounding) + rounding * sizes;
          return difference.le(most).logical_not().sum().item<std::int64_t>();  // NaN counts
        };
        Job<Element> job{data<Element>(out), out.stride(0), m, n, {}};
        job.int8 = {{&left, &right}};
        job.bias = data<Element>(bias);
        job.add = true;
        if (type == at::kFloat || has_bf16_dot())
          job.terms = {{data<Element>(s), s.stride(0), data<Element>(b), b.stride(0), 4, true}};
        const at::Tensor all = exact + was + bias.to(at::kDouble) + (job.terms.empty() ? at::zeros_like(low) : low);
        gemm(std::vector<Job<Element>>{job});
        CHECK((frame.isnan() == before).all().item<bool>());
        CHECK(off(out, all, all.abs() + low.abs() + exact.abs() + was.abs() + 3) == 0);

        job.add = false, job.bias = nullptr, job.terms = {};
        at::Tensor first = nan_like(out.contiguous()), second = nan_like(first);  // overwritten, and with the same bits
        job.out = data<Element>(first), job.out_stride = first.stride(0);
        gemm(std::vector<Job<Element>>{job});
        job.out = data<Element>(second);
        gemm(std::vector<Job<Element>>{job});
        CHECK(off(first, exact, exact.abs()) == 0);
        CHECK(same_bits(first, second));
      }
}

}  // namespace

TEST_CASE("rows become codes within half a step, zeros exactly, extremes too", "[cpu]") {
  check_rows<float>();
  check_rows<Bf16Bits>();
}

TEST_CASE("products of codes equal f64 within their bound, stay in their frame, same bits twice", "[cpu]") {
  check_products<float>();
  check_products<Bf16Bits>();
}

TEST_CASE("every instruction set gives the bits of the formula for every code", "[cpu]") {
  std::mt19937 generator(3);
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); };
  for (const std::int64_t rows : {1, 2, 3, 6, 7, 13})
    for (const std::int64_t columns : {16, 32, 48, 64, 80})
      for (const std::int64_t steps : {1, 2, 17, 300})
        for (const bool add : {false, true}) {
          INFO(rows << " rows, " << columns << " columns, " << steps << " steps");
          const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
          std::vector<std::uint8_t> a(size(rows * steps * 4));
          std::vector<std::int8_t> b(size(steps * columns * 4));
          std::vector<float> row_scale(size(rows)), column_scale(size(columns)), start(size(rows * columns)), want(start.size());
          std::vector<std::int32_t> shift(size(columns), 0);
          const bool extreme = steps == 300;  // sums at their largest
          for (auto& code : a) code = static_cast<std::uint8_t>(extreme ? 255 * draw(0, 1) : draw(0, 255));
          for (auto& code : b) code = static_cast<std::int8_t>(extreme ? 254 * draw(0, 1) - 127 : draw(-127, 127));
          for (auto* values : {&row_scale, &column_scale, &start})
            for (float& value : *values) value = static_cast<float>(draw(1, 1 << 20)) * 0x1p-18f;
          for (std::int64_t j = 0; j < columns; ++j)
            for (std::int64_t p = 0; p < 4 * steps; ++p) shift[size(j)] -= 128 * b[size((p / 4 * columns + j) * 4 + p % 4)];
          for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j) {
              std::int64_t sum = 0;
              for (std::int64_t p = 0; p < 4 * steps; ++p)
                sum += (a[size(i * steps * 4 + p)] - 128) * b[size((p / 4 * columns + j) * 4 + p % 4)];
              const float value = static_cast<float>(sum) * row_scale[size(i)] * column_scale[size(j)];
              want[size(i * columns + j)] = add ? start[size(i * columns + j)] + value : value;
            }
          const auto same = [&](void (*multiply)(const Int8Arguments&)) {
            std::vector<float> c = start;
            multiply({a.data(), 4 * steps, rows, row_scale.data(), b.data(), columns, steps, column_scale.data(), shift.data(),
                      c.data(), columns, columns, add});
            return c == want;
          };
          CHECK(same(&TileScalar::multiply));
          if (isa() >= Isa::avx2) CHECK(same(&TileAvx2::multiply));
          if (isa() >= Isa::avx512 && has_int8_dot()) CHECK(same(&TileAvx512Vnni::multiply));
          if (isa() == Isa::amx) CHECK(same(&TileAmx::multiply));
        }
}

TEST_CASE("what is not finite in a side of codes is seen in its row or column and nowhere else", "[cpu]") {
  for (const auto& [k, bad] : {std::pair{33, std::numeric_limits<float>::quiet_NaN()},
                               {33, std::numeric_limits<float>::infinity()},
                               {128, std::numeric_limits<float>::quiet_NaN()},
                               {128, std::numeric_limits<float>::infinity()}}) {
    at::Tensor x = random({20, k}, 1), w = random({70, k}, 2), out = at::zeros({20, 70});
    x[3][5] = bad;
    w[66][32] = -bad;
    const Int8Rows left = rows_of<float>(x);
    const Int8Matrix right = matrix_of<float>(w);
    Job<float> job{data<float>(out), 70, 20, 70, {}};
    job.int8 = {{&left, &right}};
    gemm(std::vector<Job<float>>{job});
    at::Tensor want = at::zeros({20, 70}, at::kBool);
    want[3].fill_(true);
    want.select(1, 66).fill_(true);
    CHECK((out.isfinite().logical_not() == want).all().item<bool>());
  }
}

TEST_CASE("a linear too wide for sums in 32 bits is refused", "[cpu]") {
  const at::Tensor w = at::zeros({1, kMaxInt8Depth + 1});
  CHECK(message_of([&] { matrix_of<float>(w); }) ==
        "a linear of 131073 inputs or outputs is too wide for products in 8 bits, which end at 131072; set train.base_precision: "
        "full");
}

}  // namespace graft::kernels::cpu
