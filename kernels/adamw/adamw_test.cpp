#include "kernels/adamw/adamw.h"

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

#include <cmath>

#include <ATen/Parallel.h>

namespace graft::kernels {
namespace {

using namespace graft::testing;

struct State {
  at::Tensor p, g, m, v;
};
State make(std::int64_t n) { return {random({n}, 1), random({n}, 2, at::kFloat, 0.01), at::zeros({n}), at::zeros({n})}; }

// The update of the header in f64, one element at a time.
void reference_step(State& s, std::int64_t t, const AdamWOptions& o) {
  const double norm = s.g.norm().item<double>(), clip = o.max_norm > 0 ? std::min(1.0, o.max_norm / (norm + 1e-6)) : 1;
  auto p = s.p.accessor<double, 1>(), g = s.g.accessor<double, 1>(), m = s.m.accessor<double, 1>(), v = s.v.accessor<double, 1>();
  for (std::int64_t i = 0; i < s.p.numel(); ++i) {
    const double gradient = g[i] * clip;
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * gradient;
    v[i] = o.beta2 * v[i] + (1 - o.beta2) * gradient * gradient;
    const double m_hat = m[i] / (1 - std::pow(o.beta1, t)), v_hat = v[i] / (1 - std::pow(o.beta2, t));
    p[i] = p[i] * (1 - o.lr * o.weight_decay) - o.lr * m_hat / (std::sqrt(v_hat) + o.eps);
  }
}

}  // namespace

TEST_CASE("adamw equals its formula in f64 over many steps", "[adamw]") {
  for (const std::int64_t n : {0, 1, 5, 40000}) {
    for (const AdamWOptions o : {AdamWOptions{}, AdamWOptions{1e-2, 0.8, 0.95, 1e-6, 0.1, 0.5}}) {
      State s = make(n), exact{s.p.to(at::kDouble), s.g.to(at::kDouble), s.m.to(at::kDouble), s.v.to(at::kDouble)};
      const int steps = n > 1000 ? 3 : 30;
      for (int t = 1; t <= steps; ++t) {
        s.g = random({n}, 100 + static_cast<std::uint64_t>(t), at::kFloat, t % 2 ? 0.01 : 3);
        exact.g = s.g.to(at::kDouble);
        const AdamWResult result = adamw_step(s.p, s.g, s.m, s.v, t, o);
        CHECK(result.applied);
        CHECK(result.norm == Approx(exact.g.norm().item<double>()).epsilon(1e-12));
        reference_step(exact, t, o);
      }
      CHECK(relative_error(s.p, exact.p) < 1e-6);
      CHECK(relative_error(s.m, exact.m) < 1e-6);
      CHECK(relative_error(s.v, exact.v) < 1e-6);
    }
  }
}

TEST_CASE("adamw gives the same bits whatever the number of threads", "[adamw]") {
  const int threads = at::get_num_threads();
  State one = make(100003), many = make(100003);
  AdamWOptions o;
  o.max_norm = 1;
  at::set_num_threads(1);
  const AdamWResult a = adamw_step(one.p, one.g, one.m, one.v, 1, o);
  at::set_num_threads(3);
  const AdamWResult b = adamw_step(many.p, many.g, many.m, many.v, 1, o);
  at::set_num_threads(threads);
  CHECK(a.norm == b.norm);
  CHECK((same_bits(one.p, many.p) && same_bits(one.m, many.m) && same_bits(one.v, many.v)));
}

TEST_CASE("a gradient that is not finite changes nothing and is reported", "[adamw]") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    State s = make(70000), before{s.p.clone(), s.g.clone(), s.m.clone(), s.v.clone()};
    s.g[69999] = bad;
    const AdamWResult result = adamw_step(s.p, s.g, s.m, s.v, 1, {});
    CHECK_FALSE(result.applied);
    CHECK_FALSE(std::isfinite(result.norm));
    CHECK((same_bits(s.p, before.p) && same_bits(s.m, before.m) && same_bits(s.v, before.v)));
  }
  State large = make(10);
  large.g.fill_(1e30f);  // its square is beyond f32, its norm is not beyond f64
  AdamWOptions o;
  o.max_norm = 1;
  CHECK(adamw_step(large.p, large.g, large.m, large.v, 1, o).applied);
  CHECK(large.p.isfinite().all().item<bool>());
}

TEST_CASE("adamw names what does not fit", "[adamw]") {
  State s = make(4);
  CHECK(message_of([&] { adamw_step(s.p, at::zeros({5}), s.m, s.v, 1, {}); }) ==
        "adamw: gradients is (5) but must be (4), as parameters");
  CHECK(message_of([&] { adamw_step(s.p, s.g, s.m, s.v, 0, {}); }) == "adamw: step number is 0 but counts from 1");
}

}  // namespace graft::kernels
