#include <numeric>

#include "kernels/attention/attention_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

struct Options {
  std::int64_t query_heads, key_heads, size, window;
  float softcap;
};

// q, k, v are columns of one buffer, as after a fused projection; so are dq, dk, dv.
template <class T>
struct Case {
  Options o;
  std::int64_t tokens;
  Matrix<T> qkv, out, d_o, d_qkv;
  Matrix<float> lse, dot;
  Buffer<AttentionTile> tiles;
  float scale;

  Case(std::vector<std::int32_t> starts, Options options, Layout layout = kDense)
      : o(options),
        tokens(starts.back()),
        qkv(filled<T>(tokens, (o.query_heads + 2 * o.key_heads) * o.size, 1, layout)),
        out(tokens, o.query_heads * o.size, layout),
        d_o(filled<T>(tokens, o.query_heads * o.size, 2, layout)),
        d_qkv(tokens, qkv.columns(), layout),
        lse(o.query_heads, tokens),
        dot(o.query_heads, tokens),
        tiles(attention_tiles(starts)),
        scale(static_cast<float>(1 / std::sqrt(static_cast<double>(o.size)))) {}

  Heads part(const Matrix<T>& m, std::int64_t first_head) const { return {m.data() + first_head * o.size, m.stride(), o.size}; }
  void forward() {
    launched(graft_attention_forward(
        kType<T>,
        {part(qkv, 0), part(qkv, o.query_heads), part(qkv, o.query_heads + o.key_heads), part(out, 0), lse.data(), tiles.data(),
         static_cast<std::int64_t>(tiles.size()), tokens, o.query_heads, o.key_heads, o.size, o.window, scale, o.softcap},
        nullptr));
  }
  void backward() {
    launched(graft_attention_backward(
        kType<T>,
        {part(d_o, 0), part(qkv, 0), part(qkv, o.query_heads), part(qkv, o.query_heads + o.key_heads), part(out, 0),
         part(d_qkv, 0), part(d_qkv, o.query_heads), part(d_qkv, o.query_heads + o.key_heads), lse.data(), dot.data(),
         tiles.data(), static_cast<std::int64_t>(tiles.size()), tokens, o.query_heads, o.key_heads, o.size, o.window, scale,
         o.softcap},
        nullptr));
  }
  Bits bits() const { return joined({out.bits(), lse.bits(), d_qkv.bits()}); }
};

struct Exact {
  std::vector<double> out, lse, d_qkv;
};

// The formulas of attention.h in f64. D is of the output that the kernel stored, as there.
template <class T>
Exact exact(const Case<T>& c, const std::vector<std::int32_t>& starts) {
  const auto [query_heads, key_heads, size, window, softcap] = c.o;
  const double scale = static_cast<double>(c.scale), cap = static_cast<double>(softcap);
  const auto at = [&](std::int64_t token, std::int64_t head, std::int64_t d) { return c.qkv(token, head * size + d); };
  Exact e{std::vector<double>(static_cast<std::size_t>(c.out.rows() * c.out.columns())),
          std::vector<double>(static_cast<std::size_t>(c.lse.rows() * c.lse.columns())),
          std::vector<double>(static_cast<std::size_t>(c.qkv.rows() * c.qkv.columns()))};
  const auto add = [&](std::int64_t token, std::int64_t head, std::int64_t d, double x) {
    e.d_qkv[static_cast<std::size_t>(token * c.qkv.columns() + head * size + d)] += x;
  };
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
    for (std::int64_t i = starts[s]; i < starts[s + 1]; ++i) {
      const std::int64_t low = window > 0 ? std::max<std::int64_t>(starts[s], i - window + 1) : starts[s];
      for (std::int64_t h = 0; h < query_heads; ++h) {
        const std::int64_t key = query_heads + h / (query_heads / key_heads), value = key + key_heads;
        std::vector<double> score;
        double largest = -INFINITY, sum = 0;
        for (std::int64_t j = low; j <= i; ++j) {
          double x = 0;
          for (std::int64_t d = 0; d < size; ++d) x += scale * at(i, h, d) * at(j, key, d);
          score.push_back(cap > 0 ? cap * std::tanh(x / cap) : x);
          largest = std::max(largest, score.back());
        }
        for (const double x : score) sum += std::exp(x - largest);
        const double lse = largest + std::log(sum);
        e.lse[static_cast<std::size_t>(h * c.tokens + i)] = lse;
        double dot = 0;
        for (std::int64_t d = 0; d < size; ++d) dot += c.d_o(i, h * size + d) * c.out(i, h * size + d);
        for (std::int64_t j = low; j <= i; ++j) {
          const double x = score[static_cast<std::size_t>(j - low)], p = std::exp(x - lse);
          double dp = 0;
          for (std::int64_t d = 0; d < size; ++d) {
            e.out[static_cast<std::size_t>(i * c.out.columns() + h * size + d)] += p * at(j, value, d);
            add(j, value, d, p * c.d_o(i, h * size + d));
            dp += c.d_o(i, h * size + d) * at(j, value, d);
          }
          const double ds = scale * p * (dp - dot) * (cap > 0 ? 1 - x * x / cap / cap : 1);
          for (std::int64_t d = 0; d < size; ++d) {
            add(i, h, d, ds * at(j, key, d));
            add(j, key, d, ds * at(i, h, d));
          }
        }
      }
    }
  }
  return e;
}

template <class T = Bf16>
void check(const std::vector<std::int32_t>& starts, const Options& o, Layout layout = kDense) {
  INFO(starts.back() << " tokens in " << starts.size() - 1 << ", heads " << o.query_heads << " / " << o.key_heads << " of "
                     << o.size << ", window " << o.window << ", cap " << o.softcap << ", offset " << layout.offset);
  Case<T> c(starts, o, layout);
  c.forward();
  c.backward();
  const Exact want = exact(c, starts);
  // In bf16, P and dS are rounded before their products on tensor cores, and results once more.
  CHECK(relative_error(c.out, want.out) < (sizeof(T) == 2 ? 4e-3 : 2e-6));
  CHECK(relative_error(c.lse, want.lse) < 2e-6);
  CHECK(relative_error(c.d_qkv, want.d_qkv) < (sizeof(T) == 2 ? 5e-3 : 4e-6));
  CHECK((c.out.gaps_untouched() && c.d_qkv.gaps_untouched()));
}

}  // namespace

TEST_CASE("attention on a GPU equals its formula in f64", "[attention][simt]") {
  const std::vector<std::int32_t> packed = {0,  1,   1,
                                            38, 102, 169};  // one token, none, a part, a whole and a bit more than a tile
  check(packed, {2, 2, 64, 0, 0});
  check(packed, {4, 2, 64, 0, 20});
  check(packed, {2, 1, 96, 0, 0});
  check(packed, {2, 1, 128, 0, 0});
  check({0, 1}, {1, 1, 64, 0, 0});
  check({0, 63, 128}, {3, 1, 64, 0, 0});
  check({0, 65, 100}, {2, 1, 256, 0, 30});
}

TEST_CASE("attention on a GPU sees a window", "[attention][simt]") {
  for (const std::int64_t window : {1, 16, 40, 64, 65, 150}) check({0, 20, 190}, {2, 1, 64, window, 0});
  check({0, 120}, {1, 1, 128, 33, 15});
  check({0, 150}, {1, 1, 256, 50, 0});
}

TEST_CASE("attention on a GPU takes misaligned and padded rows", "[attention][simt]") {
  check({0, 30, 75}, {2, 1, 64, 0, 0}, kMisaligned);
  check({0, 30, 75}, {2, 1, 96, 0, 0}, kPadded);
}

TEST_CASE("attention on a GPU without tensor cores: f32, and heads of any size", "[attention_any][simt]") {
  const std::vector<std::int32_t> packed = {0, 1, 1, 20, 90};
  check<float>(packed, {2, 1, 40, 0, 0});
  check<float>({0, 50}, {4, 2, 24, 0, 20});
  check<float>({0, 35, 40}, {1, 1, 256, 0, 30});
  for (const std::int64_t window : {1, 16, 33, 90}) check<float>({0, 20, 120}, {2, 1, 8, window, 0});
  check<float>({0, 30, 45}, {2, 1, 33, 0, 0}, kMisaligned);
  check<float>({0, 30, 45}, {1, 1, 40, 0, 0}, kPadded);
  check<Bf16>(packed, {2, 1, 80, 0, 0});
  check<Bf16>({0, 20}, {2, 1, 1, 0, 0});
  check<Bf16>({0, 40}, {1, 1, 200, 20, 15});
  check<Bf16>({0, 30, 45}, {1, 1, 39, 0, 0}, kMisaligned);
}

TEMPLATE_TEST_CASE("attention on a GPU gives a segment the same bits packed and alone", "[attention][attention_any][simt]", Bf16,
                   float) {
  const Options o{2, 1, 64, 30, 0};
  Case<TestType> packed({0, 37, 120}, o), alone({0, 83}, o);
  for (std::int64_t i = 0; i < 83; ++i) {
    for (std::int64_t j = 0; j < packed.qkv.columns(); ++j) alone.qkv.at(i, j) = packed.qkv.at(37 + i, j);
    for (std::int64_t j = 0; j < packed.out.columns(); ++j) alone.d_o.at(i, j) = packed.d_o.at(37 + i, j);
  }
  for (std::int64_t j = 0; j < packed.qkv.columns(); ++j) packed.qkv.at(5, j) = rounded<TestType>(NAN);  // stays in its segment
  for (Case<TestType>* c : {&packed, &alone}) {
    c->forward();
    c->backward();
  }
  bool equal = true;
  for (std::int64_t i = 0; i < 83; ++i) {
    for (std::int64_t j = 0; j < packed.qkv.columns(); ++j) equal = equal && packed.d_qkv(37 + i, j) == alone.d_qkv(i, j);
    for (std::int64_t j = 0; j < packed.out.columns(); ++j) equal = equal && packed.out(37 + i, j) == alone.out(i, j);
  }
  CHECK(equal);
  CHECK(std::isnan(packed.out(5, 0)));
}

TEMPLATE_TEST_CASE("attention on a GPU takes scores of a thousand", "[attention][attention_any][simt]", Bf16, float) {
  Case<TestType> c({0, 90}, {1, 1, 64, 0, 0});
  c.qkv.fill(3, 12);
  c.forward();
  c.backward();
  const Exact want = exact(c, {0, 90});
  CHECK(relative_error(c.out, want.out) < 4e-3);
  CHECK(relative_error(c.lse, want.lse) < 2e-6);
  for (const double x : values_of(c.d_qkv)) REQUIRE(std::isfinite(x));
}

TEST_CASE("attention on a GPU gives the same bits in any order, and misses every wait", "[attention][simt]") {
  for (const std::int64_t size : {64, 256}) {
    check_order([&] {
      Case<Bf16> c({0, size == 64 ? 100 : 50}, {2, 1, size, 0, 0});
      c.forward();
      c.backward();
      return c.bits();
    });
  }
}

TEST_CASE("attention on a GPU without tensor cores gives the same bits in any order", "[attention_any][simt]") {
  check_order([] {
    Case<float> c({0, 40}, {2, 1, 24, 0, 0});
    c.forward();
    c.backward();
    return c.bits();
  });
}

TEST_CASE("attention on a GPU refuses heads of more than 256 and takes nothing", "[attention][attention_any][simt]") {
  AttentionForward a{};
  a.tile_count = 1;
  a.query_heads = a.key_heads = 1;
  a.head_size = 257;
  AttentionBackward b{};
  b.tile_count = 1;
  b.query_heads = b.key_heads = 1;
  b.head_size = 257;
  for (const DType type : {DType::bf16, DType::f32})
    CHECK((graft_attention_forward(type, a, nullptr) != 0 && graft_attention_backward(type, b, nullptr) != 0));
  a.tile_count = b.tile_count = 0;
  a.head_size = b.head_size = 64;
  CHECK((graft_attention_forward(DType::bf16, a, nullptr) == 0 && graft_attention_backward(DType::f32, b, nullptr) == 0));
}

}  // namespace graft::cuda
