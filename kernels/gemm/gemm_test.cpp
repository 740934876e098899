#include "kernels/gemm/gemm.h"

#include <vector>

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::cuda {
namespace {

using testing::random;
using testing::relative_error;

at::ScalarType scalar(DType type) { return type == DType::bf16 ? at::kBFloat16 : at::kFloat; }

// Columns `ld` apart in a buffer of NaN.
struct Columns {
  Columns(std::int64_t rows, std::int64_t columns, std::int64_t pad, std::uint64_t seed, DType type)
      : ld(rows + pad),
        buffer(at::full({columns, ld}, std::numeric_limits<double>::quiet_NaN(), at::TensorOptions(scalar(type)))),
        value(buffer.narrow(1, 0, rows).t()) {
    value.copy_(random({rows, columns}, seed));
  }
  std::int64_t ld;
  at::Tensor buffer, value;  // value: (rows, columns)
};

struct Case {
  std::int64_t m, n, k;
  bool a_transposed, b_transposed;
  float alpha, beta;
  DType type, c_type;
};

void check(const Case& x) {
  INFO(x.m << " " << x.n << " " << x.k << " " << x.a_transposed << x.b_transposed << " " << x.alpha << " " << x.beta << " "
           << static_cast<int>(x.type) << static_cast<int>(x.c_type));
  const Columns a(x.a_transposed ? x.k : x.m, x.a_transposed ? x.m : x.k, 3, 1, x.type);
  const Columns b(x.b_transposed ? x.n : x.k, x.b_transposed ? x.k : x.n, 5, 2, x.type);
  const Columns c(x.m, x.n, 7, 3, x.c_type);
  const auto f64 = [](const at::Tensor& t, bool transposed) { return transposed ? t.t().to(at::kDouble) : t.to(at::kDouble); };
  at::Tensor want = x.alpha * at::mm(f64(a.value, x.a_transposed), f64(b.value, x.b_transposed));
  if (x.beta != 0)
    want += x.beta * f64(c.value, false);
  else
    c.value.fill_(std::numeric_limits<double>::quiet_NaN());  // is not read
  const Gemm gemm{{a.buffer.data_ptr(), a.ld, x.a_transposed},
                  {b.buffer.data_ptr(), b.ld, x.b_transposed},
                  c.buffer.data_ptr(),
                  c.ld,
                  x.m,
                  x.n,
                  x.k,
                  x.alpha,
                  x.beta,
                  x.type,
                  x.c_type};
  REQUIRE(gemm_cpu(gemm) == 0);
  // One rounding of the result, and sums of k products in f32.
  const double tolerance = (x.c_type == DType::bf16 ? 0x1p-8 : 0) + 0x1p-22 * std::sqrt(static_cast<double>(x.k) + 1);
  CHECK(relative_error(c.value, want) <= tolerance);
  CHECK(c.buffer.narrow(1, x.m, 7).isnan().all().item<bool>());
}

}  // namespace

TEST_CASE("a product is f64's for every transposition, scale, type and padding", "[gemm]") {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const auto& [type, c_type] :
           {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}})
        for (const auto& [alpha, beta] : {std::pair{1.f, 0.f}, {1.f, 1.f}, {-0.5f, 2.f}}) {
          check({17, 9, 33, ta, tb, alpha, beta, type, c_type});
          check({1, 1, 1, ta, tb, alpha, beta, type, c_type});
        }
  check({3, 4, 0, false, false, 1, 0, DType::f32, DType::f32});
  check({3, 4, 0, false, false, 1, 2, DType::f32, DType::f32});
  check({0, 4, 2, false, false, 1, 0, DType::f32, DType::f32});
}

TEST_CASE("row_product writes the products of a linear", "[gemm]") {
  const at::Tensor x = random({5, 7}, 1), w = random({3, 7}, 2), dy = random({5, 3}, 3);
  at::Tensor y = at::empty({5, 3}), dx = random({5, 7}, 4);
  const at::Tensor before = dx.clone();
  CHECK(gemm_cpu(row_product(DType::f32, y.data_ptr(), 3, x.data_ptr(), 7, w.data_ptr(), 7, true, 5, 3, 7, 1, 0)) == 0);
  CHECK(relative_error(y, at::mm(x, w.t())) <= 1e-6);
  CHECK(gemm_cpu(row_product(DType::f32, dx.data_ptr(), 7, dy.data_ptr(), 3, w.data_ptr(), 7, false, 5, 7, 3, 2, 1)) == 0);
  CHECK(relative_error(dx, before + 2 * at::mm(dy, w)) <= 1e-6);
}

TEST_CASE("what no library takes is refused", "[gemm]") {
  std::vector<float> memory(64);
  const Gemm good{{memory.data(), 4, false}, {memory.data(), 4, false}, memory.data(), 4, 4, 4, 4, 1, 0, DType::f32, DType::f32};
  CHECK(gemm_fault(good) == nullptr);
  const auto refused = [&](auto&& change) {
    Gemm bad = good;
    change(bad);
    return gemm_fault(bad) != nullptr && gemm_cpu(bad) == 1;
  };
  CHECK(refused([](Gemm& g) { g.a.ld = 3; }));
  CHECK(refused([](Gemm& g) { g.b.ld = 3; }));
  CHECK(refused([](Gemm& g) { g.ldc = 3; }));
  CHECK(refused([](Gemm& g) { g.m = -1; }));
  CHECK(refused([](Gemm& g) { g.a.ld = g.k = std::int64_t{1} << 31; }));
  CHECK(refused([](Gemm& g) { g.a.data = static_cast<const char*>(g.a.data) + 2; }));
  CHECK(refused([](Gemm& g) { g.c_type = DType::bf16; }));
}

}  // namespace graft::cuda
