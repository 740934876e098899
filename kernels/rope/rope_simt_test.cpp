#include "kernels/rope/rope_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

// x is a part of the columns of a wider buffer, as the queries of a fused projection are.
template <class T>
struct Case {
  std::int64_t heads, size, half;
  Matrix<T> x;
  Matrix<float> cos, sin;

  Case(std::int64_t tokens, std::int64_t head_count, std::int64_t head_size, std::int64_t half_size, Layout layout = kDense)
      : heads(head_count),
        size(head_size),
        half(half_size),
        x(filled<T>(tokens, head_count * head_size, 1, layout)),
        cos(tokens, half_size),
        sin(tokens, half_size) {
    const Matrix<float> angle = filled<float>(tokens, half, 2, kDense, 3);
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t i = 0; i < half; ++i) {
        cos.at(t, i) = static_cast<float>(std::cos(angle(t, i)));
        sin.at(t, i) = static_cast<float>(std::sin(angle(t, i)));
      }
    }
  }
  void turn(float direction) {
    launched(
        graft_rope(kType<T>, {x.data(), cos.data(), sin.data(), x.stride(), size, x.rows(), heads, half, direction}, nullptr));
  }
  std::vector<double> exact(double direction) const {
    std::vector<double> want = values_of(x);
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < half; ++i) {
          const std::int64_t low = h * size + i, high = low + half;
          const double a = x(t, low), b = x(t, high), c = cos(t, i), s = direction * sin(t, i);
          want[static_cast<std::size_t>(t * x.columns() + low)] = a * c - b * s;
          want[static_cast<std::size_t>(t * x.columns() + high)] = b * c + a * s;
        }
      }
    }
    return want;
  }
};

struct Shape {
  std::int64_t tokens, heads, size, half;
};

}  // namespace

TEMPLATE_TEST_CASE("rope on a GPU equals the rotation, forward and backward", "[rope][simt]", Bf16, float) {
  for (const Shape s : {Shape{0, 2, 8, 4}, Shape{1, 1, 2, 1}, Shape{5, 3, 64, 32}, Shape{37, 2, 10, 3}, Shape{60, 5, 64, 32},
                        Shape{3, 2, 48, 16}, Shape{2, 40, 16, 8}}) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      for (const float direction : {1.f, -1.f}) {
        INFO(s.tokens << " x " << s.heads << " x " << s.size << ", half " << s.half << ", offset " << layout.offset);
        Case<TestType> c(s.tokens, s.heads, s.size, s.half, layout);
        const auto want = c.exact(static_cast<double>(direction)), before = values_of(c.x);
        c.turn(direction);
        CHECK(relative_error(c.x, want) <= tolerance<TestType>(want.size(), 1, 2e-7));
        CHECK(c.x.gaps_untouched());
        bool rest = true;
        for (std::int64_t t = 0; t < s.tokens; ++t)
          for (std::int64_t j = 0; j < c.x.columns(); ++j)
            rest = rest && (j % s.size < 2 * s.half || c.x(t, j) == before[static_cast<std::size_t>(t * c.x.columns() + j)]);
        CHECK(rest);
      }
    }
  }
}

TEMPLATE_TEST_CASE("rope on a GPU moves each byte once", "[rope][simt][traffic]", Bf16, float) {
  Case<TestType> c(16, 3, 128, 64);
  c.turn(1);
  const simt::Traffic x = c.x.take_traffic();
  CHECK((x.read == static_cast<std::uint64_t>(c.x.bytes()) && x.written == x.read));
  CHECK(c.cos.take_traffic().read == 3 * static_cast<std::uint64_t>(c.cos.bytes()));
}

TEST_CASE("rope on a GPU looks at the alignment of tokens, heads, halves and each table", "[rope][simt]") {
  for (const Shape s : {Shape{3, 2, 20, 8}, Shape{3, 2, 32, 12}, Shape{3, 2, 32, 16}}) {
    for (const Layout layout : {kDense, Layout{0, 4}}) {
      for (int table = 0; table < 3; ++table) {
        INFO("size " << s.size << ", half " << s.half << ", pad " << layout.pad << ", table " << table);
        Case<Bf16> c(s.tokens, s.heads, s.size, s.half, layout);
        Matrix<float>* const tables[] = {&c.cos, &c.sin};
        if (table < 2) {
          Matrix<float> moved(s.tokens, s.half, Layout{1, 0});
          for (std::int64_t t = 0; t < s.tokens; ++t)
            for (std::int64_t i = 0; i < s.half; ++i) moved.at(t, i) = tables[table]->at(t, i);
          *tables[table] = moved;
        }
        const auto want = c.exact(1);
        c.turn(1);
        CHECK(relative_error(c.x, want) <= tolerance<Bf16>(want.size()));
      }
    }
  }
}

TEMPLATE_TEST_CASE("rope on a GPU gives the same bits in any order", "[rope][simt]", Bf16, float) {
  check_order([] {
    Case<TestType> c(70, 3, 24, 12);
    c.turn(1);
    return c.x.bits();
  });
}

TEST_CASE("rope on a GPU keeps a NaN in its pair and counts in 64 bits", "[rope][simt]") {
  Case<float> c(2, 1, 8, 4);
  c.x.at(1, 2) = NAN;
  c.turn(1);
  int nans = 0;
  for (const double v : values_of(c.x)) nans += std::isnan(v);
  CHECK(nans == 2);

  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  Case<Bf16> near(3, 2, 8, 4);
  const Buffer<Bf16> far(3 * kFar + 32);  // heads 8 apart, tokens 2^31 less 8
  const auto at = [&](std::int64_t t, std::int64_t j) -> Bf16& { return far[static_cast<std::size_t>(t * (kFar - 8) + j)]; };
  for (std::int64_t t = 0; t < 3; ++t)
    for (std::int64_t j = 0; j < 16; ++j) at(t, j) = near.x.at(t, j);
  near.turn(1);
  launched(graft_rope(DType::bf16, {far.data(), near.cos.data(), near.sin.data(), kFar - 8, 8, 3, 2, 4, 1}, nullptr));
  for (std::int64_t t = 0; t < 3; ++t)
    for (std::int64_t j = 0; j < 16; ++j) CHECK(at(t, j).bits == near.x.at(t, j).bits);
}

}  // namespace graft::cuda
