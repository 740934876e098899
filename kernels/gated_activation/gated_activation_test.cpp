#include "kernels/gated_activation/gated_activation.h"

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

at::Tensor reference(const at::Tensor& gate, const at::Tensor& up, Activation activation) {
  return (activation == Activation::silu ? at::silu(gate) : at::gelu(gate, "tanh")) * up;
}

struct Exact {
  at::Tensor h, dgate, dup;
};
Exact exact(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& dh, Activation activation) {
  const at::Tensor e = gate.to(at::kDouble).requires_grad_(), g = up.to(at::kDouble).requires_grad_();
  const at::Tensor h = reference(e, g, activation);
  (h * dh.to(at::kDouble)).sum().backward();
  return {h.detach(), e.grad(), g.grad()};
}

}  // namespace

TEST_CASE("gated activation equals its formula in f64, forward and backward", "[gated_activation]") {
  const PoisonedAllocations poisoned;
  const std::vector<std::pair<int, int>> shapes = {{0, 4}, {1, 1}, {3, 7}, {33, 129}, {5, 1536}};
  for (const auto activation : {Activation::silu, Activation::gelu_tanh}) {
    for (const auto& [rows, columns] : shapes) {
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        INFO(rows << " x " << columns << " " << c10::toString(type));
        const auto gate = random({rows, columns}, 1, type, 3), up = random({rows, columns}, 2, type),
                   dh = random({rows, columns}, 3, type);
        const Exact want = exact(gate, up, dh, activation);
        const at::Tensor h = gated_activation_forward(gate, up, activation);
        CHECK(same_bits(h, gated_activation_forward(gate, up, activation)));
        const bool f32 = type == at::kFloat;
        CHECK(relative_error(h, want.h) <=
              (f32 ? 5e-7 : std::max(1e-7, 2 * relative_error(reference(gate, up, activation), want.h))));
        at::Tensor dgate = gate.clone(), dup = up.clone(), again = dh.clone();
        gated_activation_backward(again, dgate, dup, activation);
        CHECK(relative_error(again, want.h) <= (f32 ? 5e-7 : 4e-3));
        CHECK(relative_error(dgate, want.dgate) <= (f32 ? 1e-6 : 4e-3));
        CHECK(relative_error(dup, want.dup) <= (f32 ? 1e-6 : 4e-3));
      }
    }
  }
}

TEST_CASE("gated activation at the ends of the range", "[gated_activation]") {
  const at::Tensor gate = at::tensor({-1e4f, -100.f, -20.f, 0.f, 20.f, 100.f, 1e4f}).view({1, 7}), up = at::ones({1, 7});
  for (const auto activation : {Activation::silu, Activation::gelu_tanh}) {
    const at::Tensor want = reference(gate.to(at::kDouble), up.to(at::kDouble), activation);
    CHECK((gated_activation_forward(gate, up, activation) - want).abs().max().item<double>() < 1e-6);
    at::Tensor dgate = gate.clone(), dup = up.clone();
    at::Tensor again = at::ones({1, 7});
    gated_activation_backward(again, dgate, dup, activation);
    CHECK((again - want).abs().max().item<double>() < 1e-6);
    CHECK(dgate[0][0].item<float>() == Approx(0).margin(1e-6));
    CHECK(dgate[0][6].item<float>() == Approx(1));
  }
}

TEST_CASE("gated activation works on halves of one buffer, keeps NaN, names what does not fit", "[gated_activation]") {
  const at::Tensor both = random({4, 20}, 4), dh = random({4, 10}, 5);
  at::Tensor gate = both.narrow(1, 0, 10), up = both.narrow(1, 10, 10);
  const Exact want = exact(gate, up, dh, Activation::silu);
  CHECK(relative_error(gated_activation_forward(gate, up, Activation::silu), want.h) < 5e-7);
  gated_activation_backward(dh, gate, up, Activation::silu);
  CHECK(relative_error(dh, want.h) < 5e-7);
  CHECK(relative_error(both, at::cat({want.dgate, want.dup}, 1)) < 1e-6);

  at::Tensor poisoned = random({1, 9}, 6);
  poisoned[0][4] = std::numeric_limits<float>::quiet_NaN();
  for (const auto activation : {Activation::silu, Activation::gelu_tanh}) {
    CHECK(gated_activation_forward(poisoned, at::ones({1, 9}), activation).isnan().sum().item<std::int64_t>() == 1);
    CHECK(gated_activation_forward(at::ones({1, 9}), poisoned, activation).isnan().sum().item<std::int64_t>() == 1);
  }
  CHECK(message_of([&] {
          gated_activation_forward(at::ones({2, 3}), at::ones({2, 4}), Activation::silu);
        }) == "gated_activation: up is (2, 4) but must be (2, 3), as gate");
}

}  // namespace graft::kernels
