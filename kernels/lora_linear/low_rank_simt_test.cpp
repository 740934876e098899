#include "kernels/lora_linear/low_rank_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

struct Shape {
  std::int64_t rows, columns, rank;
};
const std::vector<Shape> kShapes = {{1, 1, 1},     {5, 40, 3},    {64, 64, 16},  {65, 200, 8},
                                    {63, 129, 17}, {130, 72, 32}, {40, 300, 64}, {70, 65, 33}};

void shrink(const Matrix<Bf16>& x, const Matrix<Bf16>& a, const Matrix<Bf16>& s, float scale) {
  launched(graft_shrink(
      {x.data(), a.data(), s.data(), x.stride(), a.stride(), s.stride(), x.rows(), x.columns(), a.rows(), scale}, nullptr));
}

void outer_sum(const Matrix<Bf16>& narrow, const Matrix<Bf16>& wide, const Matrix<float>& out, std::int64_t splits,
               bool transposed) {
  const Buffer<float> partial(static_cast<std::size_t>(splits * narrow.columns() * wide.columns()));
  launched(graft_outer_sum({narrow.data(), wide.data(), partial.data(), out.data(), narrow.stride(), wide.stride(), out.stride(),
                            narrow.rows(), narrow.columns(), wide.columns(), splits, transposed},
                           nullptr));
}

}  // namespace

TEST_CASE("shrink on a GPU equals the product in f64", "[low_rank][simt]") {
  for (const Shape& shape : kShapes) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      INFO(shape.rows << " x " << shape.columns << ", rank " << shape.rank << ", offset " << layout.offset);
      const auto x = filled<Bf16>(shape.rows, shape.columns, 1, layout), a = filled<Bf16>(shape.rank, shape.columns, 2, layout);
      const Matrix<Bf16> s(shape.rows, shape.rank, layout);
      std::vector<double> want;
      for (std::int64_t i = 0; i < shape.rows; ++i) {
        for (std::int64_t r = 0; r < shape.rank; ++r) {
          double sum = 0;
          for (std::int64_t k = 0; k < shape.columns; ++k) sum += x(i, k) * a(r, k);
          want.push_back(0.75 * sum);
        }
      }
      shrink(x, a, s, 0.75f);
      CHECK(relative_error(s, want) <= tolerance<Bf16>(want.size()) * 1.01);
      CHECK(s.gaps_untouched());
    }
  }
}

TEST_CASE("outer_sum on a GPU equals the product in f64, both ways round, and adds", "[low_rank][simt]") {
  for (const Shape& shape : kShapes) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      for (const std::int64_t splits : {1, 3}) {
        INFO(shape.rows << " x " << shape.columns << ", rank " << shape.rank << ", offset " << layout.offset << ", splits "
                        << splits);
        const auto narrow = filled<Bf16>(shape.rows, shape.rank, 1, layout),
                   wide = filled<Bf16>(shape.rows, shape.columns, 2, layout);
        const auto out = filled<float>(shape.rank, shape.columns, 3, layout),
                   turned = filled<float>(shape.columns, shape.rank, 4, layout);
        std::vector<double> want = values_of(out), want_turned = values_of(turned);
        for (std::int64_t r = 0; r < shape.rank; ++r) {
          for (std::int64_t c = 0; c < shape.columns; ++c) {
            double sum = 0;
            for (std::int64_t i = 0; i < shape.rows; ++i) sum += narrow(i, r) * wide(i, c);
            want[static_cast<std::size_t>(r * shape.columns + c)] += sum;
            want_turned[static_cast<std::size_t>(c * shape.rank + r)] += sum;
          }
        }
        outer_sum(narrow, wide, out, splits, false);
        outer_sum(narrow, wide, turned, splits, true);
        CHECK(relative_error(out, want) < 1e-6);
        CHECK(relative_error(turned, want_turned) < 1e-6);
        CHECK((out.gaps_untouched() && turned.gaps_untouched()));
      }
    }
  }
}

TEST_CASE("low-rank products on a GPU read the wide side once", "[low_rank][simt][traffic]") {
  const auto x = filled<Bf16>(64, 256, 1), a = filled<Bf16>(16, 256, 2), s = filled<Bf16>(64, 16, 3);
  shrink(x, a, s, 1);
  CHECK(x.take_traffic().read == static_cast<std::uint64_t>(x.bytes()));
  s.take_traffic();
  const auto out = filled<float>(16, 256, 4);
  outer_sum(s, x, out, 1, false);
  CHECK(x.take_traffic().read == static_cast<std::uint64_t>(x.bytes()));
  CHECK(s.take_traffic().read == 2 * static_cast<std::uint64_t>(s.bytes()));
}

TEST_CASE("low-rank products on a GPU give the same bits in any order, and miss every wait", "[low_rank][simt]") {
  for (const std::int64_t rank : {16, 24, 64}) {
    check_order([&] {
      const auto x = filled<Bf16>(100, 200, 1), a = filled<Bf16>(rank, 200, 2);
      const Matrix<Bf16> s(100, rank);
      shrink(x, a, s, 1);
      return s.bits();
    });
    check_order([&] {
      const auto narrow = filled<Bf16>(130, rank, 1), wide = filled<Bf16>(130, 140, 2);
      const auto out = filled<float>(rank, 140, 3);
      outer_sum(narrow, wide, out, 2, false);
      return out.bits();
    });
  }
}

TEST_CASE("low-rank products on a GPU show NaN, refuse a rank above 64 and count in 64 bits", "[low_rank][simt]") {
  const auto x = filled<Bf16>(3, 40, 1), a = filled<Bf16>(4, 40, 2);
  const Matrix<Bf16> s(3, 4);
  x.at(1, 39) = rounded<Bf16>(NAN);
  shrink(x, a, s, 1);
  for (std::int64_t r = 0; r < 4; ++r) CHECK((std::isnan(s(1, r)) && !std::isnan(s(0, r)) && !std::isnan(s(2, r))));
  CHECK(graft_shrink({x.data(), a.data(), s.data(), 40, 40, 4, 3, 40, 65, 1}, nullptr) != 0);
  CHECK(graft_outer_sum({x.data(), a.data(), nullptr, nullptr, 40, 40, 4, 3, 65, 40, 1, 0}, nullptr) != 0);
  CHECK(graft_shrink({x.data(), a.data(), s.data(), 40, 40, 4, 0, 40, 4, 1}, nullptr) == 0);

  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  const Buffer<Bf16> far(2 * kFar + 40), far_s(2 * kFar + 4);
  const auto near = filled<Bf16>(3, 40, 5);
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 40; ++j) far[static_cast<std::size_t>(i * kFar + j)] = near.at(i, j);
  shrink(near, a, s, 1);
  launched(graft_shrink({far.data(), a.data(), far_s.data(), kFar, 40, kFar, 3, 40, 4, 1}, nullptr));
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t r = 0; r < 4; ++r) CHECK(far_s[static_cast<std::size_t>(i * kFar + r)].bits == s.at(i, r).bits);
  const Matrix<float> out(4, 40), far_out(4, 40);
  for (std::int64_t r = 0; r < 4; ++r)
    for (std::int64_t j = 0; j < 40; ++j) out.at(r, j) = far_out.at(r, j) = 0;
  outer_sum(s, near, out, 1, false);
  const Buffer<float> partial(160);
  launched(graft_outer_sum({far_s.data(), far.data(), partial.data(), far_out.data(), kFar, kFar, 40, 3, 4, 40, 1, 0}, nullptr));
  CHECK(far_out.bits() == out.bits());
}

}  // namespace graft::cuda
