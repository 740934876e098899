#include "kernels/rms_norm/rms_norm_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

struct Options {
  float eps, offset;
  int gain_in_f32;
};
constexpr Options kLlama{1e-5f, 0, 0}, kGemma{1e-6f, 1, 1};

template <class T>
struct Case {
  Matrix<T> x, residual, w, sum, y, dy, dx;
  Buffer<float> rstd;
  Options o;

  Case(std::int64_t rows, std::int64_t columns, Layout layout, Options options)
      : x(filled<T>(rows, columns, 1, layout, 3)),
        residual(filled<T>(rows, columns, 2, layout)),
        w(filled<T>(1, columns, 3)),
        sum(rows, columns, layout),
        y(rows, columns, layout),
        dy(filled<T>(rows, columns, 4, layout)),
        dx(filled<T>(rows, columns, 5, layout)),
        rstd(static_cast<std::size_t>(rows)),
        o(options) {}

  void forward(bool add) {
    launched(graft_rms_norm_forward(
        kType<T>,
        {x.data(), add ? residual.data() : nullptr, w.data(), add ? sum.data() : nullptr, y.data(), rstd.data(), x.stride(),
         residual.stride(), sum.stride(), y.stride(), x.rows(), x.columns(), o.eps, o.offset, o.gain_in_f32},
        nullptr));
  }
  void backward(bool add) {
    launched(graft_rms_norm_backward(kType<T>,
                                     {dy.data(), x.data(), w.data(), rstd.data(), dx.data(), dy.stride(), x.stride(), dx.stride(),
                                      x.rows(), x.columns(), o.offset, add},
                                     nullptr));
  }

  double exact_rstd(const Matrix<T>& h, std::int64_t i) const {
    double squares = 0;
    for (std::int64_t j = 0; j < h.columns(); ++j) squares += h(i, j) * h(i, j);
    return 1 / std::sqrt(squares / static_cast<double>(h.columns()) + static_cast<double>(o.eps));
  }
  std::vector<double> exact_y(const Matrix<T>& h) const {
    std::vector<double> want;
    for (std::int64_t i = 0; i < h.rows(); ++i)
      for (std::int64_t j = 0; j < h.columns(); ++j)
        want.push_back(h(i, j) * exact_rstd(h, i) * (static_cast<double>(o.offset) + w(0, j)));
    return want;
  }
  std::vector<double> exact_dx(bool add) const {
    std::vector<double> want;
    for (std::int64_t i = 0; i < x.rows(); ++i) {
      const double r = exact_rstd(x, i);
      double dot = 0;
      for (std::int64_t j = 0; j < x.columns(); ++j) dot += dy(i, j) * (static_cast<double>(o.offset) + w(0, j)) * x(i, j);
      for (std::int64_t j = 0; j < x.columns(); ++j) {
        const double m = dy(i, j) * (static_cast<double>(o.offset) + w(0, j));
        want.push_back((add ? dx(i, j) : 0) + r * (m - x(i, j) * r * r * dot / static_cast<double>(x.columns())));
      }
    }
    return want;
  }
};

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes = {{0, 8},   {1, 1},    {3, 5},    {7, 576},  {49, 67},
                                                                    {2, 255}, {2, 1024}, {7, 1025}, {2, 1032}, {1, 8208}};

}  // namespace

TEMPLATE_TEST_CASE("rms_norm on a GPU equals its formula in f64", "[rms_norm][simt]", Bf16, float) {
  for (const auto& [rows, columns] : kShapes) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      for (const Options& o : {kLlama, kGemma}) {
        INFO(rows << " x " << columns << ", offset " << layout.offset << ", gemma " << o.gain_in_f32);
        Case<TestType> c(rows, columns, layout, o);
        c.forward(false);
        const auto count = static_cast<std::size_t>(rows * columns);
        CHECK(relative_error(c.y, c.exact_y(c.x)) <= tolerance<TestType>(count, o.gain_in_f32 ? 1 : 2));
        CHECK(c.y.gaps_untouched());
        for (std::int64_t i = 0; i < rows; ++i)
          CHECK(std::abs(value_of(c.rstd[static_cast<std::size_t>(i)]) / c.exact_rstd(c.x, i) - 1) < 1e-6);
        for (const bool add : {false, true}) {
          const auto want = c.exact_dx(add);
          c.backward(add);
          if (columns > 1) CHECK(relative_error(c.dx, want) <= tolerance<TestType>(count, 1, 2e-6));
          CHECK(c.dx.gaps_untouched());
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("rms_norm on a GPU adds the residual first, and rounds what it stores", "[rms_norm][simt]", Bf16, float) {
  for (const auto& [rows, columns] : kShapes) {
    for (const Layout layout : {kDense, kMisaligned}) {
      Case<TestType> c(rows, columns, layout, kLlama);
      c.forward(true);
      CHECK(relative_error(c.y, c.exact_y(c.sum)) <= tolerance<TestType>(static_cast<std::size_t>(rows * columns), 2));
      bool equal = true;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
          equal = equal && c.sum(i, j) == value_of(rounded<TestType>(c.x(i, j) + c.residual(i, j)));
      CHECK(equal);
    }
  }
}

TEST_CASE("rms_norm on a GPU looks at the alignment of each argument", "[rms_norm][simt]") {
  for (int misaligned = 0; misaligned < 7; ++misaligned) {
    for (const Layout layout : {Layout{1, 8}, Layout{0, 3}}) {
      INFO("argument " << misaligned << ", offset " << layout.offset);
      Case<Bf16> c(3, 64, kDense, kGemma);
      Matrix<Bf16>* const arguments[] = {&c.x, &c.residual, &c.w, &c.sum, &c.y, &c.dy, &c.dx};
      const bool weight = misaligned == 2;
      *arguments[misaligned] = filled<Bf16>(weight ? 1 : 3, 64, 7, layout);
      const auto want = c.exact_dx(true);
      c.forward(true);
      CHECK(relative_error(c.y, c.exact_y(c.sum)) <= tolerance<Bf16>(1));
      c.forward(false);
      c.dx = misaligned == 6 ? filled<Bf16>(3, 64, 7, layout) : filled<Bf16>(3, 64, 5);
      c.backward(true);
      CHECK(relative_error(c.dx, want) <= tolerance<Bf16>(1));
    }
  }
}

TEST_CASE("rms_norm on a GPU rounds where Llama and Gemma do", "[rms_norm][simt]") {
  for (const Options& o : {kLlama, kGemma}) {
    Case<Bf16> c(5, 100, kDense, o);
    c.forward(false);
    bool equal = true;
    for (std::int64_t i = 0; i < 5; ++i) {
      for (std::int64_t j = 0; j < 100; ++j) {
        const float scaled = static_cast<float>(c.x(i, j)) * c.rstd[static_cast<std::size_t>(i)];
        const float first = o.gain_in_f32 ? scaled : static_cast<float>(value_of(rounded<Bf16>(static_cast<double>(scaled))));
        equal = equal &&
                c.y.at(i, j).bits == rounded<Bf16>(static_cast<double>(first * (o.offset + static_cast<float>(c.w(0, j))))).bits;
      }
    }
    CHECK(equal);
  }
}

TEMPLATE_TEST_CASE("rms_norm on a GPU moves each byte once", "[rms_norm][simt][traffic]", Bf16, float) {
  for (const std::int64_t columns : {576, 1024, 4096, 8192}) {
    Case<TestType> c(4, columns, kDense, kLlama);
    const auto once = static_cast<std::uint64_t>(c.x.bytes());
    c.forward(true);
    CHECK((c.x.take_traffic().read == once && c.residual.take_traffic().read == once));
    const simt::Traffic sum = c.sum.take_traffic(), y = c.y.take_traffic();
    CHECK((sum.read == 0 && sum.written == once && y.read == 0 && y.written == once));
    CHECK(c.w.take_traffic().read == once);  // from cache after the first row
    c.backward(true);
    const simt::Traffic dx = c.dx.take_traffic();
    CHECK((c.dy.take_traffic().read == once && c.x.take_traffic().read == once && dx.read == once && dx.written == once));
    CHECK(c.w.take_traffic().read == 2 * once);
  }
}

TEMPLATE_TEST_CASE("rms_norm on a GPU writes each byte of long rows once", "[rms_norm][simt][traffic]", Bf16, float) {
  Case<TestType> c(1, 8208, kDense, kLlama);
  const auto once = static_cast<std::uint64_t>(c.y.bytes());
  c.forward(false);
  CHECK(c.y.take_traffic().written == once);
  c.dx.take_traffic();
  c.backward(false);
  CHECK(c.dx.take_traffic().written == once);
}

TEMPLATE_TEST_CASE("rms_norm on a GPU gives the same bits in any order", "[rms_norm][simt]", Bf16, float) {
  for (const std::int64_t columns : {40, 1100}) {
    check_order([&] {
      Case<TestType> c(20, columns, kDense, kGemma);
      c.forward(true);
      c.backward(true);
      return joined({c.sum.bits(), c.y.bits(), c.dx.bits()});
    });
  }
}

TEMPLATE_TEST_CASE("rms_norm on a GPU keeps a NaN in its row and takes zeros and large values", "[rms_norm][simt]", Bf16, float) {
  Case<TestType> c(4, 1040, kDense, kLlama);
  c.x.at(1, 1039) = rounded<TestType>(NAN);
  for (std::int64_t j = 0; j < 1040; ++j) {
    c.x.at(2, j) = rounded<TestType>(0);
    c.x.at(3, j) = rounded<TestType>(j % 2 ? 1e15 : -1e15);
  }
  c.forward(false);
  for (std::int64_t j = 0; j < 1040; ++j)
    REQUIRE((std::isfinite(c.y(0, j)) && std::isnan(c.y(1, j)) && c.y(2, j) == 0 && std::isfinite(c.y(3, j))));
}

TEST_CASE("rms_norm on a GPU counts rows in 64 bits", "[rms_norm][simt]") {
  constexpr std::int64_t kFar = std::int64_t{1} << 31;  // elements from row to row: address space, hardly any memory
  const Buffer<Bf16> x(kFar + 64), y(kFar + 64);
  const Matrix<Bf16> w = filled<Bf16>(1, 64, 1), near = filled<Bf16>(2, 64, 2), want(2, 64);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 64; ++j) x[static_cast<std::size_t>(i * kFar + j)] = near.at(i, j);
  RmsNormForward a{near.data(), nullptr, w.data(), nullptr, want.data(), nullptr, 64, 0, 0, 64, 2, 64, 1e-5f, 0, 0};
  launched(graft_rms_norm_forward(DType::bf16, a, nullptr));
  a.x = x.data();
  a.y = y.data();
  a.x_stride = a.y_stride = kFar;
  launched(graft_rms_norm_forward(DType::bf16, a, nullptr));
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 64; ++j) CHECK(y[static_cast<std::size_t>(i * kFar + j)].bits == want.at(i, j).bits);
}

}  // namespace graft::cuda
