#include "kernels/lora_linear/lora_linear.h"

#include <ATen/Parallel.h>

#include "kernels/cpu/tile.h"
#include "kernels/lora_linear/coded_weight.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

struct Case {
  at::Tensor x, w, bias, dy;
  LowRank adapter;
};
Case make(std::int64_t tokens, std::int64_t in, std::int64_t out, std::int64_t rank, at::ScalarType type, double dropout = 0) {
  Case c{
      random({tokens, in}, 1, type), random({out, in}, 2, type, 0.2), random({out}, 3, type), random({tokens, out}, 4, type), {}};
  c.adapter.a = random({rank, in}, 5, at::kFloat, 0.2);
  c.adapter.b = random({out, rank}, 6, at::kFloat, 0.2);
  c.adapter.grad_a = random({rank, in}, 7);  // not zero: gradients are accumulated
  c.adapter.grad_b = random({out, rank}, 8);
  c.adapter.scale = 2;
  c.adapter.dropout = dropout;
  return c;
}

struct Exact {
  at::Tensor y, dx, grad_a, grad_b;
};
// mask: the dropout's factors (M, K), all ones without.
Exact exact(const Case& c, const at::Tensor& mask) {
  const at::Tensor x = c.x.to(at::kDouble).requires_grad_();
  const at::Tensor a = c.adapter.a.to(at::kDouble).requires_grad_(), b = c.adapter.b.to(at::kDouble).requires_grad_();
  const at::Tensor y =
      x.matmul(c.w.to(at::kDouble).t()) + c.bias.to(at::kDouble) + (x * mask).matmul(a.t()).matmul(b.t()) * c.adapter.scale;
  (y * c.dy.to(at::kDouble)).sum().backward();
  return {y.detach(), x.grad(), a.grad() + c.adapter.grad_a, b.grad() + c.adapter.grad_b};
}

// The mask itself, seen through A = I and W = 0: S = scale D(x).
at::Tensor mask_of(const Case& c, std::uint64_t seed) {
  const std::int64_t n = c.x.size(1);
  LowRank probe{at::eye(n), at::zeros({n, n}), {}, {}, 1, c.adapter.dropout};
  LoraLinearSaved saved{{}, seed};
  lora_linear_forward(at::ones(c.x.sizes()), at::zeros({n, n}), {}, &probe, &saved);
  return saved.s.to(at::kDouble);
}

}  // namespace

TEST_CASE("lora_linear equals its formula in f64, forward and backward", "[lora_linear]") {
  const PoisonedAllocations poisoned;
  struct Shape {
    std::int64_t tokens, in, out, rank;
  };
  for (const Shape s : {Shape{0, 4, 3, 2}, Shape{1, 1, 1, 1}, Shape{7, 13, 5, 3}, Shape{65, 96, 130, 16}, Shape{40, 33, 70, 3},
                        Shape{300, 64, 36, 5}}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      for (const double dropout : {0.0, 0.4}) {
        INFO(s.tokens << " tokens, " << s.in << " -> " << s.out << ", " << c10::toString(type) << ", dropout " << dropout);
        Case c = make(s.tokens, s.in, s.out, s.rank, type, dropout);
        const Exact want = exact(c, mask_of(c, 99));
        LoraLinearSaved saved{{}, 99};
        const at::Tensor y = lora_linear_forward(c.x, c.w, c.bias, &c.adapter, &saved);
        const at::Tensor dx = lora_linear_backward(c.dy, c.x, c.w, &c.adapter, saved, true);
        const bool f32 = type == at::kFloat;
        const auto bound = [&](double of_f32) { return f32 ? of_f32 : 8e-3; };
        CHECK(relative_error(y, want.y) <= bound(1e-6));
        CHECK(relative_error(dx, want.dx) <= bound(1e-6));
        CHECK(relative_error(c.adapter.grad_a, want.grad_a) <= bound(2e-6));
        CHECK(relative_error(c.adapter.grad_b, want.grad_b) <= bound(2e-6));
        Case again = make(s.tokens, s.in, s.out, s.rank, type, dropout);
        LoraLinearSaved saved_again{{}, 99};
        CHECK(same_bits(y, lora_linear_forward(c.x, c.w, c.bias, &again.adapter, &saved_again)));
        CHECK(same_bits(dx, lora_linear_backward(c.dy, c.x, c.w, &again.adapter, saved_again, true)));
        CHECK(same_bits(c.adapter.grad_a, again.adapter.grad_a));

        // X made where dX was: nothing of X is read before, nothing of dX after.
        Case behind = make(s.tokens, s.in, s.out, s.rank, type, dropout);
        LoraLinearSaved saved_behind{{}, 99};
        lora_linear_forward(c.x, c.w, c.bias, &behind.adapter, &saved_behind);
        at::Tensor seen;
        lora_group_backward({c.dy},
                            [&](at::Tensor there) {
                              seen = there.clone();
                              return there.copy_(c.x);
                            },
                            {{c.w, {}, &behind.adapter, &saved_behind}});
        CHECK(same_bits(seen, dx));
        CHECK(same_bits(c.adapter.grad_a, behind.adapter.grad_a));
        CHECK(same_bits(c.adapter.grad_b, behind.adapter.grad_b));
      }
    }
  }
}

TEST_CASE("bf16 lora_linear is no worse than twice the plain bf16 composition", "[lora_linear]") {
  Case c = make(64, 96, 80, 8, at::kBFloat16);
  const Exact want = exact(c, at::ones(c.x.sizes(), at::kDouble));
  const at::Tensor plain =
      at::linear(c.x, c.w, c.bias) +
      at::linear(at::linear(c.x, c.adapter.a.to(at::kBFloat16)), c.adapter.b.to(at::kBFloat16)) * c.adapter.scale;
  const at::Tensor y = lora_linear_forward(c.x, c.w, c.bias, &c.adapter, nullptr);
  CHECK(relative_error(y, want.y) <= 2 * relative_error(plain, want.y));
}

TEST_CASE("an odd number of outputs in bf16 has the bits of an even one, where a 0 stands behind each row", "[lora_linear]") {
  if (!cpu::has_bf16_dot()) {
    WARN("no products of bf16 pairs on this machine");
    return;
  }
  const Case c = make(40, 64, 334, 5, at::kBFloat16);
  const auto step = [&](std::int64_t out, const at::Tensor& y) {
    LowRank adapter{c.adapter.a,
                    c.adapter.b.narrow(0, 0, out).contiguous(),
                    c.adapter.grad_a.clone(),
                    c.adapter.grad_b.narrow(0, 0, out).contiguous(),
                    2,
                    0};
    const at::Tensor w = c.w.narrow(0, 0, out);
    LoraLinearSaved saved;
    lora_linear_forward_out(y, c.x, w, {}, &adapter, &saved);
    const at::Tensor product = y.clone();
    y.copy_(c.dy.narrow(1, 0, out));
    const at::Tensor dx = lora_linear_backward(y, c.x, w, &adapter, saved, true);
    return std::vector<at::Tensor>{product.narrow(1, 0, 333).contiguous(), dx, adapter.grad_a,
                                   adapter.grad_b.narrow(0, 0, 333).contiguous()};
  };
  c.dy.select(1, 333).zero_();
  const auto even = step(334, at::empty({40, 334}, c.x.options())),
             odd = step(333, at::zeros({40, 334}, c.x.options()).narrow(1, 0, 333));
  for (std::size_t i = 0; i < even.size(); ++i) CHECK(same_bits(odd[i], even[i]));
}

TEST_CASE("S lies as the plan of memory counts it, with zeros behind the rank", "[lora_linear]") {
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const std::int64_t rank : {1, 16, 24, 32}) {
      if (type == at::kBFloat16 && !cpu::has_bf16_dot()) continue;  // the library's products: S is dense
      INFO(c10::toString(type) << ", rank " << rank);
      const Case c = make(40, 64, 96, rank, type);
      LowRank adapter = c.adapter;
      LoraLinearSaved saved;
      lora_linear_forward(c.x, c.w, {}, &adapter, &saved);
      const std::int64_t stride = low_rank_stride(rank, type);
      const bool tiles = type == at::kBFloat16 && cpu::isa() == cpu::Isa::amx;
      CHECK(stride == (tiles ? 32 : rank + rank % 2));
      if (cpu::isa() < cpu::Isa::avx2) continue;
      REQUIRE(saved.s.stride(0) == stride);
      const at::Tensor behind = saved.s.as_strided({40, stride - rank}, {stride, 1}, saved.s.storage_offset() + rank);
      CHECK((behind == 0).all().item<bool>());
    }
}

TEST_CASE("dropout keeps the expected share, scaled, and depends on the seed alone", "[lora_linear]") {
  const Case c = make(200, 101, 4, 2, at::kFloat, 0.25);
  const at::Tensor mask = mask_of(c, 5);
  const double kept = mask.ne(0).to(at::kDouble).mean().item<double>();
  CHECK(kept == Approx(0.75).margin(0.01));
  CHECK(relative_error(mask.masked_select(mask.ne(0)), at::full({static_cast<std::int64_t>(kept * 20200 + 0.5)}, 1 / 0.75)) <
        1e-6);
  CHECK(same_bits(mask, mask_of(c, 5)));
  CHECK_FALSE(same_bits(mask, mask_of(c, 6)));
  // No column and no row is favoured.
  CHECK(mask.ne(0).to(at::kDouble).mean(0).min().item<double>() > 0.6);
  CHECK(mask.ne(0).to(at::kDouble).mean(1).min().item<double>() > 0.5);
}

TEST_CASE("a group of linears equals its parts, its dX their sum rounded once", "[lora_linear]") {
  const PoisonedAllocations poisoned;
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const double dropout : {0.0, 0.4}) {
      for (const std::int64_t tokens : {3, 70}) {  // the library's way and our own
        INFO(tokens << " tokens, " << c10::toString(type) << ", dropout " << dropout);
        Case q = make(tokens, 32, 40, 6, type, dropout), k = make(tokens, 32, 24, 6, type), plain = make(tokens, 32, 18, 6, type);
        const auto masked = exact(q, mask_of(q, 9)), bare = exact(k, at::ones(k.x.sizes(), at::kDouble));
        LoraLinearSaved saved_q{{}, 9}, saved_k{{}, 10}, none;
        const std::vector<LoraPart> parts = {
            {q.w, q.bias, &q.adapter, &saved_q}, {k.w, k.bias, &k.adapter, &saved_k}, {plain.w, {}, nullptr, &none}};
        const auto y = lora_group_forward(q.x, parts);
        const at::Tensor dx = lora_group_backward({q.dy, k.dy, plain.dy}, q.x, parts, true);
        const double bound = type == at::kFloat ? 2e-6 : 8e-3;
        CHECK(relative_error(y[0], masked.y) <= bound);
        CHECK(relative_error(y[1], bare.y) <= bound);
        CHECK(relative_error(y[2], plain.x.to(at::kDouble).matmul(plain.w.to(at::kDouble).t())) <= bound);
        CHECK(relative_error(dx, masked.dx + bare.dx + plain.dy.to(at::kDouble).matmul(plain.w.to(at::kDouble))) <= bound);
        CHECK(relative_error(q.adapter.grad_a, masked.grad_a) <= bound);
        CHECK(relative_error(k.adapter.grad_b, bare.grad_b) <= bound);
      }
    }
  }
}

// What the codes of rows stand for, with plain f32 arithmetic.
at::Tensor rounded_rows(const at::Tensor& x) {
  if (x.numel() == 0) return x.to(at::kDouble);
  at::Tensor wide = x.to(at::kFloat);
  const std::int64_t n = x.size(1);
  std::int64_t order = n % 16 == 0 ? 16 : 1;
  while (order >= 16 && order < 256 && n % (4 * order) == 0) order *= 4;
  const auto butterflies = [&](std::int64_t half) {
    const at::Tensor pairs = wide.reshape({-1, n / (2 * half), 2, half}), low = pairs.select(2, 0), high = pairs.select(2, 1);
    wide = at::stack({low + high, low - high}, 2).reshape({-1, n});
  };
  for (std::int64_t half = 1; half < std::min<std::int64_t>(order, 16); half *= 2) butterflies(half);
  for (std::int64_t half = n / std::max<std::int64_t>(order / 16, 1); half < n; half *= 2) butterflies(half);
  const at::Tensor largest = wide.abs().amax(1, true);
  const at::Tensor scale = (largest / 127).to(at::kDouble) / std::sqrt(static_cast<double>(order));
  return (wide * (127 / largest)).round().to(at::kDouble) * scale;
}

TEST_CASE("a weight in codes of 8 bits: products of rounded rows, the low-rank path as it is", "[lora_linear]") {
  const PoisonedAllocations poisoned;
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const double dropout : {0.0, 0.4})
      for (const auto& [tokens, in] : std::vector<std::pair<std::int64_t, std::int64_t>>{
               {0, 40}, {1, 64}, {3, 37}, {70, 192}, {70, 37}, {253, 256}}) {  // the library's way and our own
        INFO(tokens << " tokens, " << in << " inputs, " << c10::toString(type) << ", dropout " << dropout);
        Case q = make(tokens, in, 48, 6, type, dropout), k = make(tokens, in, 24, 5, type);
        Case full_q = make(tokens, in, 48, 6, type, dropout), full_k = make(tokens, in, 24, 5, type);
        const CodedWeight q8{Int8Weight(q.w)}, k8{Int8Weight(k.w)};
        CHECK((q8.in() == in && q8.out() == 48 && k8.out() == 24));
        LoraLinearSaved saved_q{{}, 9}, saved_k{{}, 10}, saved_full_q{{}, 9}, saved_full_k{{}, 10};
        const std::vector<LoraPart> parts = {{{}, q.bias, &q.adapter, &saved_q, &q8}, {{}, k.bias, &k.adapter, &saved_k, &k8}};
        const std::vector<LoraPart> full = {{q.w, q.bias, &full_q.adapter, &saved_full_q},
                                            {k.w, k.bias, &full_k.adapter, &saved_full_k}};
        const auto y = lora_group_forward(q.x, parts);
        const at::Tensor dx = lora_group_backward({q.dy, k.dy}, q.x, parts, true);
        lora_group_forward(q.x, full);
        lora_group_backward({q.dy, k.dy}, q.x, full, true);
        CHECK(same_bits(saved_q.s, saved_full_q.s));
        CHECK(same_bits(q.adapter.grad_a, full_q.adapter.grad_a));
        CHECK(same_bits(q.adapter.grad_b, full_q.adapter.grad_b));
        CHECK(same_bits(k.adapter.grad_a, full_k.adapter.grad_a));

        const auto want = [&](const Case& c, const at::Tensor& mask) {
          const Exact plain = exact(c, mask);
          const at::Tensor x = c.x.to(at::kDouble), w = c.w.to(at::kDouble), dy = c.dy.to(at::kDouble);
          return std::pair{plain.y - x.mm(w.t()) + rounded_rows(c.x).mm(rounded_rows(c.w).t()),
                           plain.dx - dy.mm(w) + rounded_rows(c.dy).mm(rounded_rows(c.w.t().contiguous()).t())};
        };
        const auto [y_q, dx_q] = want(q, mask_of(q, 9));
        const auto [y_k, dx_k] = want(k, at::ones(k.x.sizes(), at::kDouble));
        const double bound = type == at::kFloat ? 2e-6 : 8e-3;
        CHECK(relative_error(y[0], y_q) <= bound);
        CHECK(relative_error(y[1], y_k) <= bound);
        CHECK(relative_error(dx, dx_q + dx_k) <= bound);
      }
}

TEST_CASE("a weight in NF4: the same bits as with the numbers that it stands for, on any number of threads",
          "[lora_linear][nf4]") {
  const PoisonedAllocations poisoned;
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const double dropout : {0.0, 0.4})
      for (const auto& [tokens, in] : std::vector<std::pair<std::int64_t, std::int64_t>>{
               {0, 40}, {1, 64}, {3, 37}, {70, 192}, {70, 37}, {33, 100}, {253, 256}}) {  // the library's way and our own
        INFO(tokens << " tokens, " << in << " inputs, " << c10::toString(type) << ", dropout " << dropout);
        struct Run {
          Case q, k;
          std::vector<at::Tensor> results;
        };
        const auto run = [&](bool coded, int threads) {
          const int before = at::get_num_threads();
          at::set_num_threads(threads);
          Run r{make(tokens, in, 50, 6, type, dropout), make(tokens, in, 24, 5, type), {}};
          const CodedWeight q4{Nf4Weight(r.q.w)}, k4{Nf4Weight(r.k.w)};
          r.q.w = q4.nf4()->values(type);
          r.k.w = k4.nf4()->values(type);
          LoraLinearSaved saved_q{{}, 9}, saved_k{{}, 10};
          const std::vector<LoraPart> parts = {
              {coded ? at::Tensor() : r.q.w, r.q.bias, &r.q.adapter, &saved_q, coded ? &q4 : nullptr},
              {coded ? at::Tensor() : r.k.w, {}, &r.k.adapter, &saved_k, coded ? &k4 : nullptr}};
          r.results = lora_group_forward(r.q.x, parts);
          r.results.push_back(lora_group_backward({r.q.dy, r.k.dy}, r.q.x, parts, true));
          for (const LowRank* adapter : {&r.q.adapter, &r.k.adapter}) {
            r.results.push_back(adapter->grad_a);
            r.results.push_back(adapter->grad_b);
          }
          at::set_num_threads(before);
          return r;
        };
        const Run got = run(true, 1);
        for (const int threads : {1, 3}) {  // the library's sums depend on their number
          const Run coded = run(true, threads), numbers = run(false, threads);
          for (std::size_t i = 0; i < got.results.size(); ++i) {
            INFO("result " << i << " on " << threads << " threads");
            CHECK(same_bits(coded.results[i], numbers.results[i]));
          }
        }
        // And f64's, with the bounds of the formula's test; gradients are accumulated onto what make() gives.
        Case q = make(tokens, in, 50, 6, type, dropout), k = make(tokens, in, 24, 5, type);
        q.w = got.q.w, k.w = got.k.w, k.bias.zero_();
        const Exact of_q = exact(q, mask_of(q, 9)), of_k = exact(k, at::ones(k.x.sizes(), at::kDouble));
        const double bound = type == at::kFloat ? 2e-6 : 8e-3;
        CHECK(relative_error(got.results[0], of_q.y) <= bound);
        CHECK(relative_error(got.results[1], of_k.y) <= bound);
        CHECK(relative_error(got.results[2], of_q.dx + of_k.dx) <= bound);
        CHECK(relative_error(got.results[3], of_q.grad_a) <= bound);
        CHECK(relative_error(got.results[6], of_k.grad_b) <= bound);
      }
}

TEST_CASE("inference has no dropout; without an adapter the layer is linear", "[lora_linear]") {
  Case c = make(9, 12, 7, 3, at::kFloat, 0.5);
  const Exact want = exact(c, at::ones(c.x.sizes(), at::kDouble));
  CHECK(relative_error(lora_linear_forward(c.x, c.w, c.bias, &c.adapter, nullptr), want.y) < 1e-6);
  CHECK(relative_error(lora_linear_forward(c.x, c.w, {}, nullptr, nullptr), c.x.to(at::kDouble).matmul(c.w.to(at::kDouble).t())) <
        1e-6);
  LoraLinearSaved saved;
  const at::Tensor dx = lora_linear_backward(c.dy, c.x, c.w, nullptr, saved, true);
  CHECK(relative_error(dx, c.dy.to(at::kDouble).matmul(c.w.to(at::kDouble))) < 1e-6);
  lora_linear_forward(c.x, c.w, c.bias, &c.adapter, &saved);
  CHECK_FALSE(lora_linear_backward(c.dy, c.x, c.w, &c.adapter, saved, false).defined());
}

TEST_CASE("lora_linear writes every element of its output, keeps NaN in its row, names what does not fit", "[lora_linear]") {
  Case c = make(5, 8, 6, 2, at::kFloat);
  at::Tensor y = at::full({5, 6}, std::numeric_limits<float>::quiet_NaN());
  lora_linear_forward_out(y, c.x, c.w, {}, &c.adapter, nullptr);
  CHECK(y.isfinite().all().item<bool>());
  c.x[2][0] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor nan = lora_linear_forward(c.x, c.w, {}, &c.adapter, nullptr).isnan();
  CHECK((nan[2].all().item<bool>() && nan.sum().item<std::int64_t>() == 6));
  CHECK(message_of([&] {
          lora_linear_forward(c.x, at::ones({6, 9}), {}, nullptr, nullptr);
        }) == "lora_linear: weight is (6, 9) but must be (6, 8), the last size of x (5, 8)");
  for (const CodedWeight& codes : {CodedWeight{Int8Weight(at::ones({6, 9}))}, CodedWeight{Nf4Weight(at::ones({6, 9}))}})
    CHECK(message_of([&] {
            lora_group_forward(c.x, {{{}, {}, nullptr, nullptr, &codes}});
          }) == "lora_linear: the weight in codes has 9 columns, not the last size of x (5, 8)");
  LowRank other{at::ones({2, 9}), at::ones({6, 2}), {}, {}};
  CHECK(message_of([&] { lora_linear_forward(c.x, c.w, {}, &other, nullptr); }) ==
        "lora_linear: adapter A is (2, 9) but must be (2, 8), as the weight (6, 8) demands");
  other.a = at::ones({8, 2}).t();
  CHECK(message_of([&] { lora_linear_forward(c.x, c.w, {}, &other, nullptr); }) ==
        "lora_linear: adapter A has stride 2 in its last dimension but must have 1");
  CHECK(message_of([&] {
          lora_linear_forward_out(at::ones({6, 5}).t(), c.x, c.w, {}, nullptr, nullptr);
        }) == "lora_linear: y has stride 5 in its last dimension but must have 1");
  CHECK(message_of([&] {
          lora_group_backward({y}, c.x, {{c.w, {}, &c.adapter, nullptr}}, false);
        }) == "lora_linear: the backward of an adapter needs what the forward saved; run it with saved");
}

}  // namespace graft::kernels
