#include "kernels/cuda/runtime.h"

#include <cstring>
#include <string>

#include "kernels/copy_rows/copy_rows_cuda.h"
#include "kernels/gemm/gemm.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

RuntimeDevice open() {
  RuntimeDevice device{};
  const char* why = graft_runtime_open(&device);
  INFO((why != nullptr ? why : ""));
  REQUIRE(why == nullptr);
  return device;
}

bool synchronized() { return graft_runtime_synchronize() == nullptr; }

// A block of floats in the runtime's memory.
struct Block {
  explicit Block(std::int64_t count) : values(static_cast<float*>(graft_runtime_allocate(static_cast<std::size_t>(count) * 4))) {
    REQUIRE(values != nullptr);
    REQUIRE(reinterpret_cast<std::uintptr_t>(values) % 256 == 0);
    graft_runtime_use(values, static_cast<std::size_t>(count) * 4);
    for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  }
  ~Block() { graft_runtime_release(values); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  float* values;
};

constexpr std::int64_t kRows = 50, kColumns = 40;

// to = scale from, on the stream.
void scale(const Block& from, const Block& to, float factor) {
  REQUIRE(graft_copy_rows(DType::f32, DType::f32,
                          {from.values, nullptr, to.values, kColumns, kColumns, kRows, kRows, kColumns, factor},
                          graft_runtime_stream()) == 0);
}

struct Case {
  std::int64_t m, n, k;
  bool a_transposed, b_transposed;
  float alpha, beta;
};

template <class T, class Out>
void check_gemm(const Case& x, Stream stream) {
  INFO(x.m << " " << x.n << " " << x.k << " " << x.a_transposed << x.b_transposed << " " << x.alpha << " " << x.beta);
  constexpr Layout padded{8, 8};
  // Row-major matrices: Matrix(j, i) is element (i, j) of the column-major operand.
  const auto a = x.a_transposed ? filled<T>(x.m, x.k, 1, padded) : filled<T>(x.k, x.m, 1, padded);
  const auto b = x.b_transposed ? filled<T>(x.k, x.n, 2, padded) : filled<T>(x.n, x.k, 2, padded);
  const auto c = filled<Out>(x.n, x.m, 3, padded);
  std::vector<double> want;
  for (std::int64_t j = 0; j < x.n; ++j)
    for (std::int64_t i = 0; i < x.m; ++i) {
      double sum = 0;
      for (std::int64_t p = 0; p < x.k; ++p) sum += (x.a_transposed ? a(i, p) : a(p, i)) * (x.b_transposed ? b(p, j) : b(j, p));
      want.push_back(x.alpha * sum + (x.beta != 0 ? x.beta * c(j, i) : 0));
    }
  if (x.beta == 0) c.at(0, 0) = rounded<Out>(NAN);  // is not read
  const Buffer<float> workspace(1 << 20);
  const Gemm gemm{{a.data(), a.stride(), x.a_transposed},
                  {b.data(), b.stride(), x.b_transposed},
                  c.data(),
                  c.stride(),
                  x.m,
                  x.n,
                  x.k,
                  x.alpha,
                  x.beta,
                  kType<T>,
                  kType<Out>};
  REQUIRE(graft_gemm(gemm, workspace.data(), workspace.size() * 4, stream) == 0);
  REQUIRE(synchronized());
  REQUIRE(simt::finish() == 0);  // the stream may not be the runtime's
  CHECK(relative_error(c, want) <= tolerance<Out>(want.size(), 1, 0x1p-22 * std::sqrt(static_cast<double>(x.k))));
  CHECK(c.gaps_untouched());
}

}  // namespace

TEST_CASE("the runtime says what the device is", "[runtime][simt]") {
  const RuntimeDevice device = open();
  CHECK(std::strlen(device.name) > 0);
  CHECK(device.major >= 7);
  CHECK((device.total_bytes >= device.free_bytes && device.free_bytes > 0));
  CHECK(graft_runtime_stream() != nullptr);
  CHECK(graft_runtime_allocate(std::size_t{1} << 60) == nullptr);
  CHECK(synchronized());
}

TEST_CASE("what is given to the stream happens in its order, and has happened after synchronize", "[runtime][simt]") {
  open();
  const Block a(kRows * kColumns), b(kRows * kColumns), c(kRows * kColumns);
  for (int round = 0; round < 3; ++round) {
    scale(a, b, 2);
    scale(b, c, 3);
    scale(a, b, 5);
    REQUIRE(synchronized());
    bool equal = true;
    for (std::int64_t i = 0; i < kRows * kColumns; ++i)
      equal = equal && b.values[i] == 5 * a.values[i] && c.values[i] == 6 * a.values[i];
    CHECK(equal);
    a.values[7] = static_cast<float>(100 + round);  // the host's again
  }
}

TEST_CASE("the runtime's product is f64's", "[runtime][gemm][simt]") {
  open();
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const auto& [alpha, beta] : {std::pair{1.f, 0.f}, {1.f, 1.f}, {-0.5f, 2.f}}) {
        check_gemm<float, float>({16, 24, 40, ta, tb, alpha, beta}, graft_runtime_stream());
        check_gemm<Bf16, Bf16>({16, 24, 40, ta, tb, alpha, beta}, graft_runtime_stream());
        check_gemm<Bf16, float>({64, 8, 136, ta, tb, alpha, beta}, graft_runtime_stream());
      }
  check_gemm<float, float>({16, 8, 8, false, false, 1, 0}, nullptr);
}

// Of the simulator alone: that it waits for synchronize, and what it sees.
TEST_CASE("simt begins nothing before synchronize, and faults are told there", "[runtime][simt][traffic]") {
  open();
  const Block a(kRows * kColumns), b(kRows * kColumns);
  scale(a, b, 2);
  CHECK(b.values[1] == 1);
  a.values[1] = 50;  // too early: the kernel will read it
  REQUIRE(synchronized());
  CHECK(b.values[1] == 100);

  graft_runtime_use(b.values, 4 * (kRows * kColumns - 1));
  scale(a, b, 2);
  graft_runtime_use(b.values, 4 * kRows * kColumns);  // later than the launch
  const char* fault = graft_runtime_synchronize();
  REQUIRE(fault != nullptr);
  INFO(fault);
  CHECK(std::string(fault).starts_with("graft_copy_rows_f32: a write of "));
  CHECK(std::string(fault).find("outside of every buffer") != std::string::npos);
  CHECK(synchronized());

  graft_runtime_use(b.values, 0);
  CHECK(std::isnan(b.values[1]));  // nobody's
  graft_runtime_use(b.values, 4 * kRows * kColumns);
  std::vector<float> host(64);
  const Gemm gemm{{host.data(), 4, false}, {b.values, 4, false}, b.values, 4, 4, 4, 4, 1, 0, DType::f32, DType::f32};
  REQUIRE(graft_gemm(gemm, nullptr, 0, graft_runtime_stream()) == 0);
  fault = graft_runtime_synchronize();
  REQUIRE(fault != nullptr);
  CHECK(std::string(fault) == "gemm: A is outside of every buffer");
}

}  // namespace graft::cuda
