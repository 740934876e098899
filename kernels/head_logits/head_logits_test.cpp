#include "kernels/head_logits/head_logits.h"

#include <ATen/ATen.h>

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

// Against f64, relative to the sum of the terms' sizes: an f32 product of K terms is within about K 2^-24, far below bf16's 2^-9.
double largest_error(const at::Tensor& x, const at::Tensor& weight, const LowRank* adapter, const at::Tensor& got) {
  const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
  at::Tensor want = at::mm(wide(x), wide(weight).t()), size = at::mm(wide(x).abs(), wide(weight).abs().t());
  if (adapter != nullptr) {
    want += adapter->scale * at::mm(at::mm(wide(x), wide(adapter->a).t()), wide(adapter->b).t());
    size += adapter->scale * at::mm(at::mm(wide(x).abs(), wide(adapter->a).abs().t()), wide(adapter->b).abs().t());
  }
  REQUIRE(got.scalar_type() == at::kFloat);
  REQUIRE(got.sizes() == want.sizes());
  return ((got - want).abs() / size).max().item<double>();
}

}  // namespace

TEST_CASE("logits are f32 products whatever the operands' type", "[head_logits]") {
  at::manual_seed(3);
  const at::ScalarType type = GENERATE(at::kFloat, at::kBFloat16);
  const std::int64_t tokens = GENERATE(1, 5), hidden = GENERATE(1, 33, 576);
  const std::int64_t vocabulary = 1031;
  INFO("T " << tokens << " H " << hidden);
  const at::Tensor x = (at::randn({tokens, hidden}) * 4).to(type), weight = at::randn({vocabulary, hidden}).to(type);
  LowRank adapter;
  adapter.a = at::randn({3, hidden});
  adapter.b = at::randn({vocabulary, 3}) * 0.1;
  adapter.scale = 0.5;
  const double bound = static_cast<double>(hidden + 8) * 0x1p-24;
  CHECK(largest_error(x, weight, nullptr, head_logits(x, weight, nullptr)) < bound);
  CHECK(largest_error(x, weight, &adapter, head_logits(x, weight, &adapter)) < bound);
  CHECK(at::equal(head_logits(x, weight, &adapter), head_logits(x, weight, &adapter)));
}

TEST_CASE("operands that do not fit are refused", "[head_logits]") {
  const at::Tensor x = at::zeros({2, 4}, at::kBFloat16);
  CHECK_THROWS(head_logits(x, at::zeros({3, 5}, at::kBFloat16), nullptr));
  CHECK_THROWS(head_logits(x, at::zeros({3, 4}), nullptr));
  LowRank adapter{at::zeros({2, 4}), at::zeros({2, 2}), {}, {}};
  CHECK(testing::message_of([&] {
          head_logits(x, at::zeros({3, 4}, at::kBFloat16), &adapter);
        }) == "head_logits: adapter B is (2, 2) but must be (3, 2), outputs of the weight by rank");
}

}  // namespace graft::kernels
