#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include <array>

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

struct Exact {
  double sum;
  at::Tensor dx, logprob, grad_a, grad_b;
};
Exact exact(const at::Tensor& x, const at::Tensor& w, const LowRank* adapter, const at::Tensor& labels,
            const LinearCrossEntropyOptions& o) {
  const at::Tensor in = x.to(at::kDouble).requires_grad_();
  at::Tensor a, b, weight = w.to(at::kDouble);
  if (adapter != nullptr) {
    a = adapter->a.to(at::kDouble).requires_grad_();
    b = adapter->b.to(at::kDouble).requires_grad_();
    weight = weight + adapter->scale * b.matmul(a);
  }
  at::Tensor z = in.matmul(weight.t());
  if (o.softcap > 0) z = at::tanh(z / o.softcap) * o.softcap;
  const at::Tensor kept = labels.ne(-100).nonzero().squeeze(1);
  z = z.index_select(0, kept);
  const at::Tensor logprob = at::log_softmax(z, -1).gather(1, labels.index_select(0, kept).unsqueeze(1)).squeeze(1);
  at::Tensor loss = (o.label_smoothing - 1) * logprob;
  if (o.label_smoothing > 0) loss = loss - o.label_smoothing * at::log_softmax(z, -1).mean(-1);
  if (o.z_loss > 0) loss = loss + o.z_loss * at::logsumexp(z, {-1}).square();
  if (o.row_weight.defined()) loss = loss * o.row_weight.to(at::kDouble).index_select(0, kept);
  const at::Tensor sum = loss.sum();
  (sum * o.grad_scale).backward();
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
  for (const Shape s : {Shape{1, 3, 1}, Shape{2, 5, 7}, Shape{40, 24, 333}, Shape{70, 24, 333}, Shape{700, 8, 30011}}) {
    for (const double softcap : {0.0, 2.5}) {
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        if (type == at::kBFloat16 && s.tokens == 700) continue;  // bf16 products are slow on some machines
        INFO(s.tokens << " x " << s.hidden << " x " << s.vocabulary << " cap " << softcap << " " << c10::toString(type));
        const auto x = random({s.tokens, s.hidden}, 1, type), w = random({s.vocabulary, s.hidden}, 2, type),
                   labels = labels_of(s.tokens, s.vocabulary);
        const Exact want = exact(x, w, nullptr, labels, training(softcap, 0.25));
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

TEST_CASE("a chunk of logits has 256 rows at least", "[linear_cross_entropy]") {
  CHECK(linear_cross_entropy_chunk(49152, 2) == 512);
  CHECK(linear_cross_entropy_chunk(49152, 4) == 256);
  CHECK(linear_cross_entropy_chunk(262144, 4) == 256);
}

TEST_CASE("linear_cross_entropy trains an adapter of the head", "[linear_cross_entropy]") {
  const auto x = random({30, 16}, 1), w = random({90, 16}, 2), labels = labels_of(30, 90);
  LowRank adapter{random({4, 16}, 3), random({90, 4}, 4), at::zeros({4, 16}), at::zeros({90, 4}), 0.5, 0};
  const Exact want = exact(x, w, &adapter, labels, training(3, 0.1));
  const auto got = linear_cross_entropy(x, w, &adapter, labels, training(3, 0.1));
  CHECK(got.sum == Approx(want.sum).epsilon(1e-6));
  CHECK(relative_error(got.dx, want.dx) < 3e-6);
  CHECK(relative_error(adapter.grad_a, want.grad_a) < 3e-6);
  CHECK(relative_error(adapter.grad_b, want.grad_b) < 3e-6);
  auto head_only = training(3, 0.1);
  head_only.want_dx = false;
  CHECK_FALSE(linear_cross_entropy(x, w, &adapter, labels, head_only).dx.defined());
}

TEST_CASE("z-loss, label smoothing and weights of rows equal f64 and finite differences", "[linear_cross_entropy]") {
  const PoisonedAllocations poisoned;
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const auto& [softcap, z_loss, smoothing] : {std::array{0.0, 1e-2, 0.0}, {0.0, 0.0, 0.1}, {2.5, 1e-3, 0.2}}) {
      for (const bool weighted : {false, true}) {
        INFO(c10::toString(type) << " cap " << softcap << " z " << z_loss << " smoothing " << smoothing << " weighted "
                                 << weighted);
        const auto x = random({40, 24}, 1, type), w = random({333, 24}, 2, type), labels = labels_of(40, 333);
        auto options = training(softcap, 0.25);
        options.z_loss = z_loss;
        options.label_smoothing = smoothing;
        if (weighted) options.row_weight = at::rand({40}, at::detail::createCPUGenerator(5));
        const Exact want = exact(x, w, nullptr, labels, options);
        const auto got = linear_cross_entropy(x, w, nullptr, labels, options);
        const bool f32 = type == at::kFloat;
        CHECK(got.sum == Approx(want.sum).epsilon(f32 ? 1e-6 : 4e-3));
        CHECK(relative_error(got.logprob, want.logprob) <= (f32 ? 1e-6 : 1e-2));
        // In bf16 as far as plain cross-entropy by ATen in bf16, whose logits and gradients are rounded in the same places.
        const Exact plain = exact(x, w, nullptr, labels, training(softcap, 0.25));
        CHECK(relative_error(got.dx, want.dx) <=
              std::max(3e-6, f32 ? 0 : 2 * relative_error(plain_dx(x, w, labels, softcap, 0.25), plain.dx)));
        if (!f32) continue;
        const auto along = random({40, 24}, 7);
        const double h = 1.0 / 256;  // sums are good to 1e-7 of some 200, so the quotient to 5e-3 of some 50
        const double up = linear_cross_entropy(x + h * along, w, nullptr, labels, options).sum;
        const double down = linear_cross_entropy(x - h * along, w, nullptr, labels, options).sum;
        const double slope = (got.dx.to(at::kDouble) * along.to(at::kDouble)).sum().item<double>() / 0.25;
        CHECK(slope == Approx((up - down) / (2 * h)).epsilon(1e-3).margin(5e-3));
      }
    }
  }
}

TEST_CASE("a logit of minus infinity has no gradient, and hurts no other", "[linear_cross_entropy]") {
  const double inf = std::numeric_limits<double>::infinity();
  at::Tensor w = random({50, 2}, 2);
  w.select(1, 0).fill_(0);
  w[4][0] = -1e30;  // times 1e30: -inf
  const auto labels = at::tensor({3, 4}, at::kLong);
  at::Tensor x = random({2, 2}, 1);
  x.select(1, 0).fill_(1e30);
  const auto got = linear_cross_entropy(x, w, nullptr, labels, training(0, 1));
  CHECK(got.sum == inf);  // row 1 wants the impossible
  CHECK(got.logprob[1].item<double>() == -inf);
  const at::Tensor others = at::cat({w.narrow(0, 0, 4), w.narrow(0, 5, 45)});
  const Exact without = exact(x, others, nullptr, at::tensor({3, -100}, at::kLong), training(0, 1));
  CHECK(got.logprob[0].item<double>() == Approx(without.logprob[0].item<double>()).epsilon(1e-6));
  CHECK(got.dx[0][1].item<double>() == Approx(without.dx[0][1].item<double>()).epsilon(1e-5));
  CHECK(std::isfinite(got.dx[0][0].item<double>()));
  auto smooth = training(0, 1);
  smooth.label_smoothing = 0.1;
  CHECK(linear_cross_entropy(x, w, nullptr, labels, smooth).sum == inf);
  CHECK(linear_cross_entropy(x, w, nullptr, labels, smooth).dx.isfinite().all().item<bool>());
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
  LinearCrossEntropyOptions weighted;
  weighted.row_weight = at::ones({2});
  CHECK(message_of([&] { linear_cross_entropy(x, w, nullptr, at::zeros({3}, at::kLong), weighted); }) ==
        "linear_cross_entropy: row_weight is (2) but must be (3), the first size of x (3, 8)");
  CHECK(message_of([&] {
          linear_cross_entropy(x, random({50, 9}, 1), nullptr, at::zeros({3}, at::kLong), {});
        }) == "linear_cross_entropy: weight is (50, 9) but must be (50, 8), the last size of x (3, 8)");
}

}  // namespace graft::kernels
