#include "kernels/attention/attention.h"

#include <ATen/Parallel.h>

#include "kernels/attention/attention_cpu.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

// One dense masked softmax over all segments at once, in the type of its inputs.
at::Tensor reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                     const AttentionOptions& o) {
  const std::int64_t tokens = q.size(0), group = q.size(1) / k.size(1);
  const at::Tensor segment = at::empty({tokens}, at::kLong), index = at::arange(tokens);
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    segment.slice(0, starts[i], starts[i + 1]).fill_(static_cast<std::int64_t>(i));
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
  at::Tensor seen = segment.unsqueeze(1).eq(segment.unsqueeze(0)).logical_and(distance.ge(0));
  if (o.window > 0) seen = seen.logical_and(distance.lt(o.window));
  const auto heads = [&](const at::Tensor& x) { return x.permute({1, 0, 2}); };
  at::Tensor scores = heads(q).matmul(heads(k.repeat_interleave(group, 1)).transpose(1, 2)) * o.scale;
  if (o.softcap > 0) scores = at::tanh(scores / o.softcap) * o.softcap;
  scores = scores.masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  return heads(at::softmax(scores, -1).matmul(heads(v.repeat_interleave(group, 1))));
}

struct Inputs {
  at::Tensor q, k, v, dout;
};
Inputs inputs(std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads, std::int64_t d, at::ScalarType type) {
  return {random({tokens, heads, d}, 1, type), random({tokens, kv_heads, d}, 2, type), random({tokens, kv_heads, d}, 3, type),
          random({tokens, heads, d}, 4, type)};
}

struct Results {
  at::Tensor out, dq, dk, dv;
};
Results exact(const Inputs& in, std::span<const std::int32_t> starts, const AttentionOptions& o) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).requires_grad_(); };
  const at::Tensor q = leaf(in.q), k = leaf(in.k), v = leaf(in.v), out = reference(q, k, v, starts, o);
  (out * in.dout.to(at::kDouble)).sum().backward();
  return {out.detach(), q.grad(), k.grad(), v.grad()};
}
Results ours(const Inputs& in, std::span<const std::int32_t> starts, const AttentionOptions& o) {
  at::Tensor lse;
  Results r{attention_forward(in.q, in.k, in.v, starts, o, &lse), nan_like(in.q), nan_like(in.k), nan_like(in.v)};
  attention_backward(in.dout, in.q, in.k, in.v, r.out, lse, starts, o, r.dq, r.dk, r.dv);
  return r;
}
void check_close(const Results& got, const Results& want, double forward, double backward) {
  CHECK(relative_error(got.out, want.out) <= forward);
  CHECK(relative_error(got.dq, want.dq) <= backward);
  CHECK(relative_error(got.dk, want.dk) <= backward);
  CHECK(relative_error(got.dv, want.dv) <= backward);
}

}  // namespace

TEST_CASE("attention equals dense masked attention in f64, forward and backward", "[attention]") {
  const PoisonedAllocations poisoned;
  const std::vector<std::vector<std::int32_t>> layouts = {{0, 0}, {0, 1}, {0, 2, 2, 9}, {0, 33, 34, 300}};
  for (const auto& starts : layouts) {
    for (const auto& [heads, kv_heads, d] : {std::array<int, 3>{1, 1, 3}, {6, 2, 16}, {3, 3, 8}}) {
      for (const AttentionOptions o : {AttentionOptions{0.3, 0, 0}, {0.3, 7, 0}, {0.3, 0, 1.5}, {0.5, 150, 2.0}, {0.3, 1, 0}}) {
        INFO(starts.back() << " tokens, heads " << heads << "/" << kv_heads << ", window " << o.window << ", cap " << o.softcap);
        const Inputs in = inputs(starts.back(), heads, kv_heads, d, at::kFloat);
        const Results got = ours(in, starts, o);
        // With one visible key P is constant: dq and dk are zero but for rounding.
        if (starts.back() > 1 && o.window != 1)
          check_close(got, exact(in, starts, o), 1e-6, 3e-6);
        else
          CHECK(relative_error(got.out, reference(in.q, in.k, in.v, starts, o)) < 1e-6);
        const Results again = ours(in, starts, o);
        CHECK((same_bits(got.out, again.out) && same_bits(got.dq, again.dq) && same_bits(got.dk, again.dk) &&
               same_bits(got.dv, again.dv)));
      }
    }
  }
}

TEST_CASE("the backward of a long document is cut in ranges: f64, and the same bits on any number of threads", "[attention]") {
  const PoisonedAllocations poisoned;
  CHECK(cpu::partial_rows(512) == 512);
  CHECK(cpu::partial_rows(1024) == 512 + 1024);
  CHECK(cpu::partial_rows(2048) == 512 + 1024 + 1536 + 2048);
  CHECK(cpu::partial_rows(8192) == 2048 + 4096 + 6144 + 8192);
  const std::vector<std::int32_t> starts = {0, 11, 2311};
  const Inputs in = inputs(starts.back(), 2, 1, 8, at::kFloat);
  for (const AttentionOptions o : {AttentionOptions{0.3, 0, 0}, {0.3, 301, 2}}) {
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const Results one = ours(in, starts, o);
    at::set_num_threads(3);
    const Results three = ours(in, starts, o);
    at::set_num_threads(threads);
    CHECK((same_bits(one.out, three.out) && same_bits(one.dq, three.dq) && same_bits(one.dk, three.dk) &&
           same_bits(one.dv, three.dv)));
    check_close(one, exact(in, starts, o), 1e-6, 3e-6);
  }
}

TEST_CASE("bf16 attention errs at most as the composition in bf16 does", "[attention]") {
  const PoisonedAllocations poisoned;
  for (const std::int64_t d : {3, 16, 64, 80, 128}) {
    for (const AttentionOptions o : {AttentionOptions{0.25, 0, 0}, {0.25, 33, 0}, {0.25, 0, 2.0}}) {
      INFO("D " << d << ", window " << o.window << ", cap " << o.softcap);
      const std::vector<std::int32_t> starts = {0, 41, 170};  // an odd segment before another one
      const Inputs in = inputs(170, 4, 2, d, at::kBFloat16);
      const Results want = exact(in, starts, o), got = ours(in, starts, o);
      const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(); };
      const at::Tensor q = leaf(in.q), k = leaf(in.k), v = leaf(in.v), out = reference(q, k, v, starts, o);
      (out * in.dout).sum().backward();
      const auto error = [](const at::Tensor& x, const at::Tensor& exact) { return relative_error(x, exact); };
      CHECK(error(got.out, want.out) <= error(out, want.out));
      CHECK(error(got.dq, want.dq) <= error(q.grad(), want.dq));
      CHECK(error(got.dk, want.dk) <= error(k.grad(), want.dk));
      CHECK(error(got.dv, want.dv) <= error(v.grad(), want.dv));
      const Results again = ours(in, starts, o);
      CHECK((same_bits(got.out, again.out) && same_bits(got.dq, again.dq) && same_bits(got.dk, again.dk)));
    }
  }
}

TEST_CASE("a NaN in one document of bf16 pairs does not reach its neighbour", "[attention]") {
  const std::vector<std::int32_t> starts = {0, 33, 70};  // a pair of keys would hold the last of one and the first of the next
  Inputs in = inputs(70, 2, 2, 64, at::kBFloat16);
  for (auto* x : {&in.q, &in.k, &in.v, &in.dout}) x->slice(0, 33).fill_(std::numeric_limits<double>::quiet_NaN());
  const Results got = ours(in, starts, {0.125, 0, 0});
  for (const auto* x : {&got.out, &got.dq, &got.dk, &got.dv}) {
    CHECK(x->slice(0, 0, 33).isfinite().all().item<bool>());
    CHECK(x->slice(0, 33).isnan().all().item<bool>());
  }
}

TEST_CASE("attention never crosses a segment: packed equals separate, to the bit", "[attention]") {
  const std::vector<std::int32_t> packed = {0, 50, 51, 130};
  const AttentionOptions o{0.25, 20, 0};
  Inputs in = inputs(130, 4, 2, 16, at::kFloat);
  const Results all = ours(in, packed, o);
  for (std::size_t i = 0; i + 1 < packed.size(); ++i) {
    const std::int64_t begin = packed[i], n = packed[i + 1] - begin;
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, n).contiguous(); };
    const std::vector<std::int32_t> alone = {0, static_cast<std::int32_t>(n)};
    const Results one = ours({part(in.q), part(in.k), part(in.v), part(in.dout)}, alone, o);
    CHECK((same_bits(one.out, part(all.out)) && same_bits(one.dk, part(all.dk)) && same_bits(one.dv, part(all.dv))));
  }
  in.dout.slice(0, 50).zero_();  // a loss on the first document alone
  const Results first = ours(in, packed, o);
  for (const auto* gradient : {&first.dq, &first.dk, &first.dv}) CHECK(gradient->slice(0, 50).eq(0).all().item<bool>());
}

TEST_CASE("attention reads and writes views of a fused buffer", "[attention]") {
  const std::vector<std::int32_t> starts = {0, 30};
  const AttentionOptions o{0.25, 0, 0};
  const Inputs in = inputs(30, 4, 2, 8, at::kFloat);
  const Results want = ours(in, starts, o);
  const at::Tensor fused = at::cat({in.q, in.k, in.v}, 1).view({30, 64}), gradient = nan_like(fused);
  const auto part = [](const at::Tensor& x, std::int64_t from, std::int64_t heads) {
    return x.narrow(1, from, heads * 8).view({30, heads, 8});
  };
  at::Tensor lse;
  const at::Tensor out = attention_forward(part(fused, 0, 4), part(fused, 32, 2), part(fused, 48, 2), starts, o, &lse);
  attention_backward(in.dout, part(fused, 0, 4), part(fused, 32, 2), part(fused, 48, 2), out, lse, starts, o,
                     part(gradient, 0, 4), part(gradient, 32, 2), part(gradient, 48, 2));
  CHECK(relative_error(out, want.out) < 1e-6);
  CHECK(relative_error(gradient.view({30, 8, 8}), at::cat({want.dq, want.dk, want.dv}, 1)) < 1e-6);
}

TEST_CASE("decoding in steps equals the whole forward", "[attention]") {
  const std::vector<std::int32_t> starts = {0, 40};
  for (const AttentionOptions o : {AttentionOptions{0.25, 0, 0}, {0.25, 9, 3.0}}) {
    const Inputs in = inputs(40, 4, 2, 8, at::kFloat);
    const at::Tensor whole = attention_forward(in.q, in.k, in.v, starts, o, nullptr);
    for (const auto& [from, to] : {std::pair{0, 17}, {17, 18}, {18, 40}, {40, 40}}) {
      const at::Tensor part = attention_decode(in.q.slice(0, from, to), in.k.slice(0, 0, to), in.v.slice(0, 0, to), o);
      CHECK(relative_error(part, whole.slice(0, from, to)) < 1e-6);
    }
  }
}

TEST_CASE("attention keeps NaN among those who see it, survives huge scores, names what does not fit", "[attention]") {
  const std::vector<std::int32_t> starts = {0, 4, 8};
  Inputs in = inputs(8, 2, 1, 4, at::kFloat);
  in.k[2][0][0] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor out = attention_forward(in.q, in.k, in.v, starts, {1, 0, 0}, nullptr), nan = out.isnan();
  CHECK(nan.slice(0, 2, 4).all().item<bool>());
  CHECK_FALSE(nan.slice(0, 4, 8).any().item<bool>());
  in = inputs(8, 2, 1, 4, at::kFloat);
  CHECK(attention_forward(in.q * 1e4, in.k, in.v, starts, {1, 0, 0}, nullptr).isfinite().all().item<bool>());
  CHECK(message_of([&] {
          attention_forward(in.q, in.k, in.v, std::vector<std::int32_t>{0, 4}, {}, nullptr);
        }) == "attention: segment starts must ascend from 0 to the 8 tokens of q");
  CHECK(message_of([&] {
          attention_forward(random({8, 3, 4}, 1), random({8, 2, 4}, 1), random({8, 2, 4}, 1), starts, {}, nullptr);
        }) == "attention: q has 3 heads, which is not a multiple of the 2 heads of k");
  CHECK(message_of([&] { attention_decode(in.q, in.k.slice(0, 0, 3), in.v.slice(0, 0, 3), {}); }) ==
        "attention: q has 8 tokens but only 3 keys are there");
  at::Tensor lse;
  const at::Tensor whole = attention_forward(in.q, in.k, in.v, starts, {1, 0, 0}, &lse);
  CHECK(message_of([&] {
          attention_backward(whole.to(at::kBFloat16), in.q, in.k, in.v, whole, lse, starts, {1, 0, 0}, in.q.clone(), in.k.clone(),
                             in.v.clone());
        }) == "attention: dout, out or a gradient is BFloat16 but must be Float, the type of q");
}

}  // namespace graft::kernels
