#include "core/rng.h"
#include "kernels/lora_linear/dropout_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

template <class T>
void run(const Matrix<T>& x, const Matrix<T>& y, double probability, bool add, std::uint64_t seed = 0x123456789abcdef0) {
  launched(graft_dropout(kType<T>, {x.data(), y.data(), x.stride(), y.stride(), x.rows(), x.columns(), seed, probability, add},
                         nullptr));
}

// As dropout_rows of lora_linear.cpp draws it.
bool kept(std::int64_t row, std::int64_t column, std::int64_t columns, double probability, std::uint64_t seed) {
  const auto threshold = static_cast<std::uint32_t>(probability * 4294967296.0);
  const auto quad = static_cast<std::uint64_t>(row * ((columns + 3) / 4) + column / 4);
  return philox(seed, static_cast<std::uint64_t>(graft::Stream::dropout) << 32, quad)[static_cast<std::size_t>(column % 4)] >=
         threshold;
}

}  // namespace

TEMPLATE_TEST_CASE("dropout on a GPU draws the mask of the CPU", "[dropout][simt]", Bf16, float) {
  constexpr std::uint64_t seed = 0x123456789abcdef0;
  for (const auto& [rows, columns] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 8}, {1, 1}, {3, 5}, {9, 67}, {7, 576}, {2, 2056}}) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      for (const double probability : {0.0, 0.1, 0.75}) {
        for (const bool add : {false, true}) {
          const auto x = filled<TestType>(rows, columns, 1, layout), y = filled<TestType>(rows, columns, 2, layout);
          const auto keep = static_cast<double>(static_cast<float>(1 / (1 - probability)));
          std::vector<double> want;
          for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j)
              want.push_back((add ? y(i, j) : 0) + (kept(i, j, columns, probability, seed) ? x(i, j) * keep : 0));
          run(x, y, probability, add);
          bool equal = true;
          for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j) {
              const double w = want[static_cast<std::size_t>(i * columns + j)];
              equal = equal && std::abs(y(i, j) - w) <= std::abs(w) * (sizeof(TestType) == 4 ? 1e-6 : 0x1p-8) + 1e-6;
              equal = equal && (add || (y(i, j) == 0) == (w == 0));
            }
          CHECK(equal);
          CHECK(y.gaps_untouched());
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("dropout on a GPU moves each byte once, in any order, and shows NaN", "[dropout][simt][traffic]", Bf16,
                   float) {
  const auto x = filled<TestType>(4, 640, 1), y = filled<TestType>(4, 640, 2);
  x.at(2, 100) = rounded<TestType>(NAN);
  run(x, y, 0.0, false);
  const simt::Traffic read = x.take_traffic(), written = y.take_traffic();
  CHECK((read.read == static_cast<std::uint64_t>(x.bytes()) && written.read == 0 && written.written == read.read));
  CHECK((std::isnan(y(2, 100)) && !std::isnan(y(2, 101))));
  run(x, y, 0.5, true);
  const simt::Traffic added = y.take_traffic();
  CHECK((added.read == read.read && added.written == read.read));
  check_order([] {
    const auto in = filled<TestType>(30, 70, 3), out = filled<TestType>(30, 70, 4);
    run(in, out, 0.3, true);
    return out.bits();
  });
}

TEST_CASE("dropout on a GPU looks at the alignment of both sides", "[dropout][simt]") {
  for (const Layout layout : {kMisaligned, Layout{0, 3}}) {
    const auto x = filled<Bf16>(3, 64, 1), moved = filled<Bf16>(3, 64, 1, layout);
    const Matrix<Bf16> want(3, 64), y(3, 64, layout), z(3, 64);
    run(x, want, 0.5, false);
    run(x, y, 0.5, false);
    run(moved, z, 0.5, false);
    CHECK((values_of(y) == values_of(want) && values_of(z) == values_of(want)));
  }
}

TEST_CASE("dropout on a GPU keeps a draw that is the probability itself", "[dropout][simt]") {
  const auto x = filled<float>(1, 4, 1), y = filled<float>(1, 4, 2);
  const std::uint32_t draw = philox(5, static_cast<std::uint64_t>(graft::Stream::dropout) << 32, 0)[2];
  run(x, y, draw / 4294967296.0, false, 5);
  CHECK(y(0, 2) != 0);
}

TEST_CASE("dropout on a GPU counts rows in 64 bits", "[dropout][simt]") {
  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  const Buffer<Bf16> x(kFar + 40), y(kFar + 40);
  const Matrix<Bf16> near = filled<Bf16>(2, 40, 1), want(2, 40);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 40; ++j) x[static_cast<std::size_t>(i * kFar + j)] = near.at(i, j);
  run(near, want, 0.4, false, 9);
  launched(graft_dropout(DType::bf16, {x.data(), y.data(), kFar, kFar, 2, 40, 9, 0.4, 0}, nullptr));
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 40; ++j) CHECK(y[static_cast<std::size_t>(i * kFar + j)].bits == want.at(i, j).bits);
}

}  // namespace graft::cuda
