#include "kernels/linear_cross_entropy/linear_cross_entropy_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

struct Options {
  float softcap, z_loss, smoothing, grad_scale;
};
constexpr Options kPlain{0, 0, 0, 1}, kAll{30, 1e-3f, 0.1f, 0.25f};

template <class T>
struct Case {
  Matrix<T> z;
  Buffer<std::int64_t> labels;
  Matrix<float> weight;
  Buffer<float> loss, logprob;
  Options o;
  bool weighted = false;

  Case(std::int64_t rows, std::int64_t columns, Options options, Layout layout = kDense, double scale = 4)
      : z(filled<T>(rows, columns, 1, layout, scale)),
        labels(static_cast<std::size_t>(rows)),
        weight(filled<float>(1, rows, 2)),
        loss(static_cast<std::size_t>(rows)),
        logprob(static_cast<std::size_t>(rows)),
        o(options) {
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = i % 4 == 3 ? -100 : static_cast<std::int64_t>(i * 7919) % columns;
  }
  void run(bool want_grad = true) {
    launched(
        graft_cross_entropy_rows(kType<T>,
                                 {z.data(), labels.data(), weighted ? weight.data() : nullptr, loss.data(), logprob.data(),
                                  z.stride(), z.rows(), z.columns(), o.softcap, o.z_loss, o.smoothing, o.grad_scale, want_grad},
                                 nullptr));
  }
  Bits bits() const {
    Bits bits = z.bits();
    for (const Buffer<float>* b : {&loss, &logprob})
      for (std::size_t i = 0; i < b->size(); ++i)
        for (unsigned k = 0; k < 4; ++k)
          bits.push_back(static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>((*b)[i]) >> 8 * k));
    return bits;
  }
};

struct Exact {
  std::vector<double> loss, logprob, dz;
};
template <class T>
Exact exact(const Case<T>& c) {
  Exact e;
  const double cap = static_cast<double>(c.o.softcap), d = static_cast<double>(c.o.smoothing),
               l = static_cast<double>(c.o.z_loss);
  const std::int64_t n = c.z.columns();
  for (std::int64_t i = 0; i < c.z.rows(); ++i) {
    const std::int64_t label = c.labels[static_cast<std::size_t>(i)];
    if (label < 0) {
      e.loss.push_back(0);
      e.logprob.push_back(0);
      e.dz.insert(e.dz.end(), static_cast<std::size_t>(n), 0.0);
      continue;
    }
    const double w = c.weighted ? c.weight(0, i) : 1;
    std::vector<double> z;
    for (std::int64_t j = 0; j < n; ++j) z.push_back(cap > 0 ? cap * std::tanh(c.z(i, j) / cap) : c.z(i, j));
    const double largest = *std::max_element(z.begin(), z.end());
    double others = 0, mean = 0;  // the label apart: its probability minus one keeps its digits
    for (std::int64_t j = 0; j < n; ++j) {
      const double value = z[static_cast<std::size_t>(j)];
      if (j != label) others += std::exp(value - largest);
      mean += value / static_cast<double>(n);
    }
    const double target = z[static_cast<std::size_t>(label)], sum = others + std::exp(target - largest),
                 lse = largest + std::log(sum);
    const double logprob = others < 0.5 ? -std::log1p(others * std::exp(largest - target)) : target - lse;
    e.logprob.push_back(logprob);
    e.loss.push_back(w * (-(1 - d) * logprob + d * (lse - mean) + l * lse * lse));
    for (std::int64_t j = 0; j < n; ++j) {
      const double value = z[static_cast<std::size_t>(j)], p = std::exp(value - largest) / sum,
                   slope = cap > 0 ? 1 - value * value / cap / cap : 1;
      const double less = j == label ? -others / sum + d : p;
      e.dz.push_back(static_cast<double>(c.o.grad_scale) * w * (less + 2 * l * lse * p - d / static_cast<double>(n)) * slope);
    }
  }
  return e;
}

}  // namespace

TEMPLATE_TEST_CASE("cross-entropy on a GPU equals its formula in f64", "[linear_cross_entropy][simt]", Bf16, float) {
  for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 5}, {1, 1}, {5, 2}, {4, 7}, {13, 500}, {3, 4095}, {2, 4096}, {3, 4105}, {2, 9000}}) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      for (const Options& o : {kPlain, kAll}) {
        INFO(rows << " x " << columns << ", offset " << layout.offset << ", cap " << o.softcap);
        Case<TestType> c(rows, columns, o, layout);
        c.weighted = o.softcap > 0;
        const Exact want = exact(c);
        c.run(false);
        const Bits loss_only = c.bits();
        c.run();
        CHECK(relative_error(values_of(c.loss), want.loss) < 2e-6);
        CHECK(relative_error(values_of(c.logprob), want.logprob) < 2e-6);
        if (columns > 1)
          CHECK(relative_error(c.z, want.dz) <= tolerance<TestType>(1, 1, 4e-6));  // few elements make up most of it
        CHECK(c.z.gaps_untouched());
        Case<TestType> untouched(rows, columns, o, layout);
        untouched.weighted = c.weighted;
        untouched.run(false);
        CHECK(untouched.bits() == loss_only);
        CHECK(relative_error(untouched.z, values_of(Case<TestType>(rows, columns, o, layout).z)) == 0);
      }
    }
  }
}

TEMPLATE_TEST_CASE("cross-entropy on a GPU keeps its digits where the label is nearly certain", "[linear_cross_entropy][simt]",
                   Bf16, float) {
  for (const double lead : {5.0, 12.0, 20.0, 1e4}) {
    for (const std::int64_t label : {0, 777, 999}) {
      Case<TestType> c(1, 1000, kPlain, kDense, 0.5);
      c.labels[0] = label;
      c.z.at(0, label) = rounded<TestType>(lead);
      const Exact want = exact(c);
      c.run();
      CHECK(c.logprob[0] == Approx(want.logprob[0]).epsilon(1e-5).margin(1e-30));
      CHECK(c.z(0, label) == Approx(want.dz[static_cast<std::size_t>(label)]).epsilon(4e-3).margin(1e-30));
      CHECK(c.z(0, 1) == Approx(want.dz[1]).epsilon(4e-3).margin(1e-30));
    }
  }
}

TEMPLATE_TEST_CASE("cross-entropy on a GPU with every label ignored, extreme logits, NaN", "[linear_cross_entropy][simt]", Bf16,
                   float) {
  Case<TestType> ignored(3, 77, kAll);
  for (std::size_t i = 0; i < 3; ++i) ignored.labels[i] = -100;
  ignored.run();
  for (const double x : values_of(ignored.z)) CHECK(x == 0);
  for (std::size_t i = 0; i < 3; ++i) CHECK((ignored.loss[i] == 0 && ignored.logprob[i] == 0));

  Case<TestType> c(4, 600, kPlain);
  for (std::int64_t j = 0; j < 600; ++j) c.z.at(0, j) = rounded<TestType>(j % 2 ? 1e4 : -1e4);
  c.labels[0] = 3;
  c.z.at(1, 599) = rounded<TestType>(NAN);
  for (std::int64_t j = 1; j < 600; ++j) c.z.at(2, j) = rounded<TestType>(-INFINITY);
  c.labels[2] = 0;
  c.labels[3] = 5;
  c.z.at(3, 4) = rounded<TestType>(-INFINITY);
  c.run();
  CHECK(c.loss[0] == Approx(std::log(300)).epsilon(1e-5));
  CHECK(c.z(0, 5) == Approx(1.0 / 300).epsilon(4e-3));
  CHECK(std::isnan(c.loss[1]));
  for (std::int64_t j = 0; j < 600; ++j) REQUIRE(std::isnan(c.z(1, j)));
  CHECK(c.loss[2] == 0);
  for (std::int64_t j = 0; j < 600; ++j) REQUIRE(c.z(2, j) == 0);
  CHECK((std::isfinite(c.loss[3]) && c.z(3, 4) == 0));
  for (const std::int64_t outside : {std::int64_t{600}, (std::int64_t{1} << 32) + 3}) {
    c.labels[3] = outside;
    c.z.fill(1);
    c.run();
    CHECK((std::isnan(c.loss[3]) && std::isnan(c.logprob[3]) && std::isnan(c.z(3, 0))));
  }

  Case<TestType> low(1, 7, kPlain);  // a part of a chunk: the zeros behind it are no logits
  for (std::int64_t j = 0; j < 7; ++j) low.z.at(0, j) = rounded<TestType>(-512);
  low.run();
  CHECK(low.loss[0] == Approx(std::log(7)).epsilon(1e-6));
}

TEMPLATE_TEST_CASE("cross-entropy on a GPU reads the logits twice and writes them once", "[linear_cross_entropy][simt][traffic]",
                   Bf16, float) {
  Case<TestType> c(3, 8192, kPlain);
  const auto once = static_cast<std::uint64_t>(c.z.bytes());
  c.run(false);
  simt::Traffic z = c.z.take_traffic();
  CHECK((z.read <= once + 3 * 16 * 512 && z.written == 0));  // every thread reads the label's logit
  c.run();
  z = c.z.take_traffic();
  CHECK((z.read <= 2 * once + 3 * 16 * 512 && z.written == once));
}

TEMPLATE_TEST_CASE("cross-entropy on a GPU gives the same bits in any order", "[linear_cross_entropy][simt]", Bf16, float) {
  check_order([] {
    Case<TestType> c(9, 700, kAll);
    c.run();
    return c.bits();
  });
}

TEST_CASE("cross-entropy on a GPU counts rows in 64 bits", "[linear_cross_entropy][simt]") {
  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  Case<Bf16> c(2, 40, kPlain);
  const Buffer<Bf16> z(kFar + 40);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 40; ++j) z[static_cast<std::size_t>(i * kFar + j)] = c.z.at(i, j);
  c.run();
  launched(graft_cross_entropy_rows(
      DType::bf16, {z.data(), c.labels.data(), nullptr, c.loss.data(), nullptr, kFar, 2, 40, 0, 0, 0, 1, 1}, nullptr));
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 40; ++j) CHECK(z[static_cast<std::size_t>(i * kFar + j)].bits == c.z.at(i, j).bits);
}

}  // namespace graft::cuda
