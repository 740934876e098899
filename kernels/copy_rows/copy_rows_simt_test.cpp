#include "kernels/copy_rows/copy_rows_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

template <class In, class Out>
void run(const Matrix<In>& x, const std::vector<std::int64_t>& index, const Matrix<Out>& y, float scale) {
  const Buffer<std::int64_t> rows(index);
  launched(graft_copy_rows(
      kType<In>, kType<Out>,
      {x.data(), index.empty() ? nullptr : rows.data(), y.data(), x.stride(), y.stride(), x.rows(), y.rows(), y.columns(), scale},
      nullptr));
}

template <class In, class Out>
void check(std::int64_t columns, Layout from, Layout to, float scale) {
  INFO(columns << " columns, x " << from.offset << "+" << from.pad << ", y " << to.offset << "+" << to.pad);
  const std::vector<std::int64_t> index = {3, 0, -1, 3, 8, 9, 1, -100, 2};
  const auto x = filled<In>(9, columns, 1, from);
  const Matrix<Out> y(9, columns, to);
  run(x, index, y, scale);
  bool equal = true;
  for (std::int64_t i = 0; i < 9; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::int64_t row = index[static_cast<std::size_t>(i)];
      // The product of two floats is rounded to f32 before it is rounded to bf16, as everywhere.
      const auto want = row < 0 || row >= 9 ? 0.f : static_cast<float>(x(row, j)) * scale;
      equal = equal && y(i, j) == value_of(rounded<Out>(static_cast<double>(want)));
    }
  CHECK(equal);
  CHECK(y.gaps_untouched());
}

template <class In, class Out>
void check_all() {
  for (const std::int64_t columns : {1, 5, 64, 67, 2056})
    for (const Layout from : {kDense, kPadded, kMisaligned})
      for (const Layout to : {kDense, kMisaligned})
        for (const float scale : {1.f, 0.3f}) check<In, Out>(columns, from, to, scale);
}

}  // namespace

TEST_CASE("rows on a GPU are those that the index names", "[copy_rows][simt]") {
  check_all<Bf16, Bf16>();
  check_all<float, float>();
  check_all<float, Bf16>();
  CHECK(graft_copy_rows(DType::bf16, DType::f32, {nullptr, nullptr, nullptr, 1, 1, 1, 1, 1, 1}, nullptr) == 1);
}

TEMPLATE_TEST_CASE("rows on a GPU without an index are in order, none are nothing, one is for all", "[copy_rows][simt]", Bf16,
                   float) {
  const auto x = filled<TestType>(7, 40, 1);
  const Matrix<TestType> y(7, 40), none(0, 40);
  run(x, {}, y, 1);
  CHECK(values_of(y) == values_of(x));
  run(x, {}, none, 1);
  launched(graft_copy_rows(kType<TestType>, kType<TestType>, {x.data(), nullptr, y.data(), 0, y.stride(), 7, 7, 40, 1}, nullptr));
  bool equal = true;
  for (std::int64_t i = 0; i < 7; ++i)
    for (std::int64_t j = 0; j < 40; ++j) equal = equal && y(i, j) == x(0, j);
  CHECK(equal);
}

TEMPLATE_TEST_CASE("rows on a GPU move each byte once, in any order, and show NaN", "[copy_rows][simt][traffic]", Bf16, float) {
  const auto x = filled<TestType>(4, 640, 1);
  x.at(2, 100) = rounded<TestType>(NAN);
  const Matrix<TestType> y(3, 640);
  run(x, {2, 0, -1}, y, 1);
  const simt::Traffic read = x.take_traffic(), written = y.take_traffic();
  CHECK(read.read == 2 * static_cast<std::uint64_t>(x.bytes()) / 4);
  CHECK((read.written == 0 && written.read == 0 && written.written == static_cast<std::uint64_t>(y.bytes())));
  CHECK((std::isnan(y(0, 100)) && !std::isnan(y(0, 101)) && y(2, 100) == 0));
  check_order([] {
    const auto in = filled<TestType>(30, 70, 3);
    const Matrix<TestType> out(30, 70);
    run(in, {}, out, 0.5f);
    return out.bits();
  });
}

TEST_CASE("rows on a GPU are counted in 64 bits", "[copy_rows][simt]") {
  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  const Buffer<Bf16> x(kFar + 40), y(kFar + 40);
  const Matrix<Bf16> near = filled<Bf16>(2, 40, 1);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 40; ++j) x[static_cast<std::size_t>(i * kFar + j)] = near.at(i, j);
  launched(graft_copy_rows(DType::bf16, DType::bf16, {x.data(), nullptr, y.data(), kFar, kFar, 2, 2, 40, 1}, nullptr));
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 40; ++j) CHECK(y[static_cast<std::size_t>(i * kFar + j)].bits == near.at(i, j).bits);
}

}  // namespace graft::cuda
