#include "kernels/adamw/adamw_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

struct Options {
  double lr, beta1, beta2, eps, decay, max_norm;
};
constexpr Options kPlain{1e-4, 0.9, 0.999, 1e-8, 0, 0}, kClipped{1e-2, 0.8, 0.95, 1e-6, 0.1, 0.5};

struct Case {
  Matrix<float> p, g, m, v;
  Buffer<double> partial{kNormBlocks}, norm{1};
  Options o;

  Case(std::int64_t n, Options options, Layout layout = kDense)
      : p(filled<float>(1, n, 1, layout)), g(filled<float>(1, n, 2, layout)), m(1, n, layout), v(1, n, layout), o(options) {
    for (std::int64_t i = 0; i < n; ++i) m.at(0, i) = v.at(0, i) = 0;
  }
  void measure() { launched(graft_gradient_norm({g.data(), partial.data(), norm.data(), g.columns()}, nullptr)); }
  void step(std::int64_t t) {
    measure();
    launched(graft_adamw_step(
        {p.data(), m.data(), v.data(), g.data(), norm.data(), p.columns(), t, o.lr, o.beta1, o.beta2, o.eps, o.decay, o.max_norm},
        nullptr));
  }
  Bits bits() const { return joined({p.bits(), m.bits(), v.bits()}); }
};

}  // namespace

TEST_CASE("adamw on a GPU equals its formula in f64 over several steps", "[adamw][simt]") {
  for (const std::int64_t n : {1, 1024, 7003, 300001}) {  // less than a block, one, more than those of a step, of a norm
    for (const Options& o : {kPlain, kClipped}) {
      for (const Layout layout : {kDense, kMisaligned}) {
        if (n > 10000 && (o.max_norm == 0 || layout.offset == 0)) continue;
        Case c(n, o, layout);
        std::vector<double> p = values_of(c.p), m(p.size()), v(p.size());
        for (std::int64_t t = 1; t <= (n == 7003 ? 3 : 1); ++t) {
          c.g.fill(100 + static_cast<std::uint64_t>(t), t % 2 ? 0.01 : 3);
          const std::vector<double> g = values_of(c.g);
          double norm = 0;
          for (const double x : g) norm += x * x;
          norm = std::sqrt(norm);
          c.step(t);
          CHECK(c.norm[0] == Approx(norm).epsilon(1e-12));
          const double clip = o.max_norm > 0 ? std::min(1.0, o.max_norm / (norm + 1e-6)) : 1;
          const auto steps = static_cast<double>(t);
          for (std::size_t i = 0; i < p.size(); ++i) {
            m[i] = o.beta1 * m[i] + (1 - o.beta1) * g[i] * clip;
            v[i] = o.beta2 * v[i] + (1 - o.beta2) * g[i] * g[i] * clip * clip;
            p[i] = p[i] * (1 - o.lr * o.decay) -
                   o.lr * m[i] / (1 - std::pow(o.beta1, steps)) / (std::sqrt(v[i] / (1 - std::pow(o.beta2, steps))) + o.eps);
          }
        }
        CHECK(relative_error(c.p, p) < 1e-6);
        CHECK(relative_error(c.m, m) < 1e-6);
        CHECK(relative_error(c.v, v) < 1e-6);
      }
    }
  }
  Case none(0, kPlain);
  none.step(1);
  CHECK(none.norm[0] == 0);
}

TEST_CASE("adamw on a GPU looks at the alignment of each argument", "[adamw][simt]") {
  Case want(70, kClipped);
  want.step(1);
  for (int misaligned = 0; misaligned < 4; ++misaligned) {
    Case c(70, kClipped);
    Matrix<float>* const arguments[] = {&c.p, &c.g, &c.m, &c.v};
    Matrix<float> moved(1, 70, kMisaligned);
    for (std::int64_t i = 0; i < 70; ++i) moved.at(0, i) = arguments[misaligned]->at(0, i);
    *arguments[misaligned] = moved;
    c.step(1);
    CHECK((values_of(c.p) == values_of(want.p) && values_of(c.m) == values_of(want.m) && values_of(c.v) == values_of(want.v)));
  }
}

TEST_CASE("adamw on a GPU gives the same bits in any order", "[adamw][simt]") {
  check_order([] {
    Case c(3000, kClipped);
    c.step(1);
    return c.bits();
  });
}

TEST_CASE("adamw on a GPU moves 28 bytes a parameter, and 4 for the norm", "[adamw][simt][traffic]") {
  Case c(40000, kPlain);
  c.measure();
  CHECK(c.g.take_traffic().read == 160000);
  launched(graft_adamw_step(
      {c.p.data(), c.m.data(), c.v.data(), c.g.data(), c.norm.data(), 40000, 1, 1e-4, 0.9, 0.999, 1e-8, 0, 0}, nullptr));
  CHECK(c.g.take_traffic().read == 160000);
  for (const Matrix<float>* x : {&c.p, &c.m, &c.v}) {
    const simt::Traffic traffic = x->take_traffic();
    CHECK((traffic.read == 160000 && traffic.written == 160000));
  }
}

TEST_CASE("a gradient that is not finite changes nothing on a GPU", "[adamw][simt]") {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Case c(6999, kClipped);
    c.g.at(0, 6998) = bad;
    const Bits before = c.bits();
    c.step(1);
    CHECK_FALSE(std::isfinite(c.norm[0]));
    CHECK(c.bits() == before);
  }
  Case large(10, kClipped);
  for (std::int64_t i = 0; i < 10; ++i) large.g.at(0, i) = 1e30f;  // its square is beyond f32, its norm is not beyond f64
  large.step(1);
  CHECK(large.norm[0] == Approx(1e30 * std::sqrt(10.0)).epsilon(1e-6));
  for (const double x : values_of(large.p)) CHECK(std::isfinite(x));
}

}  // namespace graft::cuda
