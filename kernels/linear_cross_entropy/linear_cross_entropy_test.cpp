#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

struct Exact {
  double sum;
  at::Tensor dx, logprob, grad_a, grad_b;
};
Exact exact(const at::Tensor& x, const at::Tensor& w, const LowRank* adapter, const at::Tensor& labels, double softcap,
            double scale) {
  const at::Tensor in = x.to(at::kDouble).requires_grad_();
  at::Tensor a, b, weight = w.to(at::kDouble);
  if (adapter != nullptr) {
    a = adapter->a.to(at::kDouble).requires_grad_();
    b = adapter->b.to(at::kDouble).requires_grad_();
    weight = weight + adapter->scale * b.matmul(a);
  }
  at::Tensor z = in.matmul(weight.t());
  if (softcap > 0) z = at::tanh(z / softcap) * softcap;
  const at::Tensor kept = labels.ne(-100).nonzero().squeeze(1);
  const at::Tensor logprob =
      at::log_softmax(z, -1).index_select(0, kept).gather(1, labels.index_select(0, kept).unsqueeze(1)).squeeze(1);
  const at::Tensor sum = -logprob.sum();
  (sum * scale).backward();
  return {sum.item<double>(), in.grad(), logprob.detach(), adapter ? a.grad() : a, adapter ? b.grad() : b};
}

// The gradient by unfused ATen ops in the type of x; ours may be twice as far from the truth.
at::Tensor plain_dx(const at::Tensor& x, const at::Tensor& w, const at::Tensor& labels, double softcap, double scale) {
  const at::Tensor in = x.detach().clone().requires_grad_();
  at::Tensor z = in.matmul(w.t());
  if (softcap > 0) z = at::tanh(z / softcap) * softcap;
  (at::nll_loss(at::log_softmax(z.to(at::kFloat), -1), labels, {}, at::Reduction::Sum, -100) * scale).backward();
  return in.grad();
}

at::Tensor labels_of(std::int64_t tokens, std::int64_t vocabulary) {
  at::Tensor labels = at::randint(0, vocabulary, {tokens}, at::detail::createCPUGenerator(9), at::kLong);
  for (std::int64_t i = 0; i < tokens; i += 3) labels[i] = -100;
  return labels;
}

LinearCrossEntropyOptions training(double softcap, double scale) {
  LinearCrossEntropyOptions o;
  o.softcap = softcap;
  o.grad_scale = scale;
  o.want_grad = o.want_logprob = true;
  return o;
}

}  // namespace

TEST_CASE("linear_cross_entropy equals log-softmax in f64: sum, logprobs and gradients", "[linear_cross_entropy]") {
  const PoisonedAllocations poisoned;
  struct Shape {
    std::int64_t tokens, hidden, vocabulary;
  };
  for (const Shape s : {Shape{1, 3, 1}, Shape{2, 5, 7}, Shape{40, 24, 333}, Shape{700, 8, 30011}}) {
    for (const double softcap : {0.0, 2.5}) {
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        if (type == at::kBFloat16 && s.tokens == 700) continue;  // bf16 products are slow on some machines
        INFO(s.tokens << " x " << s.hidden << " x " << s.vocabulary << " cap " << softcap << " " << c10::toString(type));
        const auto x = random({s.tokens, s.hidden}, 1, type), w = random({s.vocabulary, s.hidden}, 2, type),
                   labels = labels_of(s.tokens, s.vocabulary);
        const Exact want = exact(x, w, nullptr, labels, softcap, 0.25);
        const auto got = linear_cross_entropy(x, w, nullptr, labels, training(softcap, 0.25));
        const bool f32 = type == at::kFloat;
        CHECK(got.sum == Approx(want.sum).epsilon(f32 ? 1e-6 : 4e-3).margin(1e-6));
        CHECK(relative_error(got.dx, want.dx) <=
              std::max(2e-6, 2 * relative_error(plain_dx(x, w, labels, softcap, 0.25), want.dx)));
        CHECK(relative_error(got.logprob, want.logprob) <= (f32 ? 1e-6 : 1e-2));
        const auto again = linear_cross_entropy(x, w, nullptr, labels, training(softcap, 0.25));
        CHECK((got.sum == again.sum && same_bits(got.dx, again.dx)));
      }
    }
  }
}

TEST_CASE("linear_cross_entropy trains an adapter of the head", "[linear_cross_entropy]") {
  const auto x = random({30, 16}, 1), w = random({90, 16}, 2), labels = labels_of(30, 90);
  LowRank adapter{random({4, 16}, 3), random({90, 4}, 4), at::zeros({4, 16}), at::zeros({90, 4}), 0.5, 0};
  const Exact want = exact(x, w, &adapter, labels, 3, 0.1);
  const auto got = linear_cross_entropy(x, w, &adapter, labels, training(3, 0.1));
  CHECK(got.sum == Approx(want.sum).epsilon(1e-6));
  CHECK(relative_error(got.dx, want.dx) < 3e-6);
  CHECK(relative_error(adapter.grad_a, want.grad_a) < 3e-6);
  CHECK(relative_error(adapter.grad_b, want.grad_b) < 3e-6);
  auto head_only = training(3, 0.1);
  head_only.want_dx = false;
  CHECK_FALSE(linear_cross_entropy(x, w, &adapter, labels, head_only).dx.defined());
}

TEST_CASE("no labels: no loss and a gradient of zero; unlabelled rows do not matter", "[linear_cross_entropy]") {
  const auto w = random({50, 8}, 2);
  for (const std::int64_t tokens : {0, 5}) {
    const auto got =
        linear_cross_entropy(random({tokens, 8}, 1), w, nullptr, at::full({tokens}, -100, at::kLong), training(0, 1));
    CHECK(got.sum == 0);
    CHECK(got.logprob.numel() == 0);
    CHECK((got.dx.sizes() == at::IntArrayRef({tokens, 8}) && got.dx.eq(0).all().item<bool>()));
  }
  auto x = random({4, 8}, 1);
  const at::Tensor labels = at::tensor({-100, 3, -100, 49}, at::kLong);
  const auto clean = linear_cross_entropy(x, w, nullptr, labels, training(0, 1));
  x[0].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto poisoned = linear_cross_entropy(x, w, nullptr, labels, training(0, 1));
  CHECK((clean.sum == poisoned.sum && same_bits(clean.dx, poisoned.dx)));
  x[1][0] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(linear_cross_entropy(x, w, nullptr, labels, training(0, 1)).sum));
}

TEST_CASE("the gradient of a label that is all but certain keeps its digits", "[linear_cross_entropy]") {
  const at::Tensor x = at::tensor({1.f}).view({1, 1}), labels = at::zeros({1}, at::kLong);
  for (const float margin : {7.f, 12.f, 1e4f}) {
    const at::Tensor w = at::tensor({margin, 0.f}).view({2, 1});
    const auto got = linear_cross_entropy(x, w, nullptr, labels, training(0, 1));
    const double other = 1 / (1 + std::exp(static_cast<double>(margin)));  // probability of the wrong token
    CHECK(got.sum == Approx(std::log1p(std::exp(-static_cast<double>(margin)))).epsilon(1e-5).margin(1e-30));
    CHECK(got.dx.item<double>() == Approx(-other * margin).epsilon(1e-5).margin(1e-30));
  }
}

TEST_CASE("linear_cross_entropy names what does not fit", "[linear_cross_entropy]") {
  const auto x = random({3, 8}, 1), w = random({50, 8}, 2);
  CHECK(message_of([&] {
          linear_cross_entropy(x, w, nullptr, at::tensor({1, 2, 50}, at::kLong), {});
        }) == "linear_cross_entropy: label 50 of row 2 is outside the vocabulary of 50");
  CHECK(message_of([&] {
          linear_cross_entropy(x, w, nullptr, at::tensor({1, 2}, at::kLong), {});
        }) == "linear_cross_entropy: labels is (2) but must be (3), the first size of x (3, 8)");
  CHECK(message_of([&] {
          linear_cross_entropy(x, random({50, 9}, 1), nullptr, at::zeros({3}, at::kLong), {});
        }) == "linear_cross_entropy: weight is (50, 9) but must be (50, 8), the last size of x (3, 8)");
}

}  // namespace graft::kernels
