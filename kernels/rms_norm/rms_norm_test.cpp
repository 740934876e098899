#include "kernels/rms_norm/rms_norm.h"

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

at::Tensor reference(const at::Tensor& x, const at::Tensor& w, const RmsNormOptions& o) {
  return x * at::rsqrt(x.pow(2).mean(-1, true) + o.eps) * (w + o.gain_offset);
}

// As transformers computes it in bf16.
at::Tensor composition(const at::Tensor& x, const at::Tensor& w, const RmsNormOptions& o) {
  const at::Tensor normed = x.to(at::kFloat) * at::rsqrt(x.to(at::kFloat).pow(2).mean(-1, true) + o.eps);
  if (o.gain_in_f32) return (normed * (w.to(at::kFloat) + o.gain_offset)).to(x.scalar_type());
  return normed.to(x.scalar_type()) * (w + o.gain_offset);
}

struct Exact {
  at::Tensor y, dx;
};
Exact exact(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy, const RmsNormOptions& o) {
  const at::Tensor in = x.to(at::kDouble).requires_grad_();
  const at::Tensor y = reference(in, w.to(at::kDouble), o);
  (y * dy.to(at::kDouble)).sum().backward();
  return {y.detach(), in.grad()};
}

const RmsNormOptions kLlama{1e-5, 0, false}, kGemma{1e-6, 1, true};

}  // namespace

TEST_CASE("rms_norm equals its formula in f64, forward and backward", "[rms_norm]") {
  const PoisonedAllocations poisoned;
  const std::vector<std::pair<int, int>> shapes = {{0, 8}, {1, 1}, {3, 5}, {7, 576}, {130, 67}};
  for (const auto& [rows, columns] : shapes) {
    for (const auto& options : {kLlama, kGemma}) {
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        INFO(rows << " x " << columns << " " << c10::toString(type));
        const auto x = random({rows, columns}, 1, type, 3), w = random({columns}, 2, type), dy = random({rows, columns}, 3, type);
        const Exact want = exact(x, w, dy, options);
        at::Tensor rstd;
        const at::Tensor y = rms_norm_forward(x, w, options, &rstd);
        const at::Tensor dx = rms_norm_backward(dy, x, w, rstd, options);
        const bool f32 = type == at::kFloat;
        CHECK(relative_error(y, want.y) <= (f32 ? 5e-7 : std::max(1e-7, 2 * relative_error(composition(x, w, options), want.y))));
        if (columns > 1) CHECK(relative_error(dx, want.dx) <= (f32 ? 2e-6 : 4e-3));
        CHECK(same_bits(y, rms_norm_forward(x, w, options, nullptr)));
        CHECK(same_bits(dx, rms_norm_backward(dy, x, w, rstd, options)));
      }
    }
  }
}

TEST_CASE("rms_norm backward adds to a given gradient and reads padded rows", "[rms_norm]") {
  const auto wide = random({6, 40}, 4), w = random({24}, 5), dy = random({6, 24}, 6), residual = random({6, 24}, 7);
  const at::Tensor x = wide.narrow(1, 8, 24);
  at::Tensor rstd;
  const at::Tensor y = rms_norm_forward(x, w, kLlama, &rstd);
  CHECK(same_bits(y, rms_norm_forward(x.contiguous(), w, kLlama, nullptr)));
  const at::Tensor alone = rms_norm_backward(dy, x, w, rstd, kLlama);
  const at::Tensor added = rms_norm_backward(dy, x, w, rstd, kLlama, residual.clone());
  CHECK(relative_error(added, alone + residual) < 1e-6);
}

TEST_CASE("rms_norm adds a residual to its input first", "[rms_norm]") {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = random({6, 24}, 1, type), w = random({24}, 2, type), wide = random({6, 40}, 3, type);
    const at::Tensor residual = wide.narrow(1, 3, 24), sum = x + residual, given = x.clone();
    at::Tensor rstd, want_rstd;
    const at::Tensor want = rms_norm_forward(sum, w, kLlama, &want_rstd);
    CHECK(same_bits(rms_norm_forward(given, w, kLlama, &rstd, residual), want));
    CHECK(same_bits(given, sum));
    CHECK(same_bits(rstd, want_rstd));
  }
}

TEST_CASE("rms_norm keeps a NaN in its row, and survives zeros and large values", "[rms_norm]") {
  auto x = random({3, 16}, 8);
  x[1][3] = std::numeric_limits<float>::quiet_NaN();
  x[2].zero_();
  const at::Tensor y = rms_norm_forward(x, at::ones({16}), kLlama, nullptr);
  CHECK(y[1].isnan().all().item<bool>());
  CHECK(y[2].eq(0).all().item<bool>());
  CHECK(y[0].isfinite().all().item<bool>());
  const auto large = random({2, 16}, 9, at::kFloat, 1e15);
  CHECK(rms_norm_forward(large, at::ones({16}), kLlama, nullptr).isfinite().all().item<bool>());
}

TEST_CASE("rms_norm names the argument that does not fit", "[rms_norm]") {
  const auto x = random({8, 576}, 1);
  CHECK(message_of([&] { rms_norm_forward(x, at::ones({512}), kLlama, nullptr); }) ==
        "rms_norm: weight is (512) but must be (576), the last size of x (8, 576)");
  CHECK(message_of([&] { rms_norm_forward(x, at::ones({576}, at::kBFloat16), kLlama, nullptr); }) ==
        "rms_norm: weight is BFloat16 but must be Float, the type of x");
  CHECK(message_of([&] { rms_norm_forward(x.t(), at::ones({8}), kLlama, nullptr); }) ==
        "rms_norm: x has stride 576 in its last dimension but must have 1");
  CHECK(message_of([&] { rms_norm_backward(x, x, at::ones({576}), at::ones({7}), kLlama); }) ==
        "rms_norm: rstd is (7) but must be (8), the first size of x (8, 576)");
  CHECK(message_of([&] { rms_norm_forward(x, at::ones({576}), kLlama, nullptr, x.narrow(0, 0, 7)); }) ==
        "rms_norm: residual is (7, 576) but must be (8, 576), as x (8, 576)");
}

}  // namespace graft::kernels
