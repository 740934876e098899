#include "kernels/gated_activation/gated_activation_cuda.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

struct Value {
  double act, slope;
};
Value evaluate(double e, int activation) {
  if (activation == 0) {
    const double s = 1 / (1 + std::exp(-e));
    return {e * s, s * (1 + e * (1 - s))};
  }
  const double k = std::sqrt(2 / M_PI), c = 0.044715, t = std::tanh(k * (e + c * e * e * e));
  return {e * (1 + t) / 2, (1 + t) / 2 + e * (1 - t * t) * k * (1 + 3 * c * e * e) / 2};
}

template <class T>
struct Case {
  Matrix<T> gate, up, h, dh;

  Case(std::int64_t rows, std::int64_t columns, Layout layout = kDense)
      : gate(filled<T>(rows, columns, 1, layout, 3)),
        up(filled<T>(rows, columns, 2, layout)),
        h(rows, columns, layout),
        dh(filled<T>(rows, columns, 3, layout)) {}

  void forward(int activation) {
    launched(graft_gated_forward(
        kType<T>,
        {gate.data(), up.data(), h.data(), gate.stride(), up.stride(), h.stride(), gate.rows(), gate.columns(), activation},
        nullptr));
  }
  void backward(int activation) {
    launched(graft_gated_backward(
        kType<T>,
        {dh.data(), gate.data(), up.data(), dh.stride(), gate.stride(), up.stride(), gate.rows(), gate.columns(), activation},
        nullptr));
  }
};

}  // namespace

TEMPLATE_TEST_CASE("gated_activation on a GPU equals its formula in f64", "[gated_activation][simt]", Bf16, float) {
  for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 8}, {1, 1}, {3, 5}, {7, 576}, {13, 67}, {2, 2047}, {1, 2056}, {1, 4104}}) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      for (const int activation : {0, 1}) {
        INFO(rows << " x " << columns << ", offset " << layout.offset << ", activation " << activation);
        Case<TestType> c(rows, columns, layout);
        std::vector<double> h, de, dg;
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < columns; ++j) {
            const Value v = evaluate(c.gate(i, j), activation);
            h.push_back(v.act * c.up(i, j));
            de.push_back(c.dh(i, j) * c.up(i, j) * v.slope);
            dg.push_back(c.dh(i, j) * v.act);
          }
        }
        c.forward(activation);
        CHECK(relative_error(c.h, h) <= tolerance<TestType>(h.size()));
        c.backward(activation);
        CHECK(relative_error(c.dh, h) <= tolerance<TestType>(h.size()));
        CHECK(relative_error(c.gate, de) <= tolerance<TestType>(h.size()));
        CHECK(relative_error(c.up, dg) <= tolerance<TestType>(h.size()));
        CHECK((c.h.gaps_untouched() && c.dh.gaps_untouched() && c.gate.gaps_untouched() && c.up.gaps_untouched()));
      }
    }
  }
}

TEST_CASE("gated_activation on a GPU looks at the alignment of each argument", "[gated_activation][simt]") {
  for (int misaligned = 0; misaligned < 4; ++misaligned) {
    for (const Layout layout : {Layout{1, 8}, Layout{0, 3}}) {
      Case<Bf16> c(3, 64), aligned(3, 64);
      Matrix<Bf16>*const arguments[] = {&c.gate, &c.up, &c.h, &c.dh}, *const sources[] = {&aligned.gate, &aligned.up, &aligned.h,
                                                                                          &aligned.dh};
      Matrix<Bf16> moved(3, 64, layout);
      for (std::int64_t i = 0; i < 3; ++i)
        for (std::int64_t j = 0; j < 64; ++j) moved.at(i, j) = sources[misaligned]->at(i, j);
      *arguments[misaligned] = moved;
      for (Case<Bf16>* one : {&c, &aligned}) {
        one->forward(0);
        one->backward(0);
      }
      for (std::size_t k = 0; k < 4; ++k) CHECK(values_of(*arguments[k]) == values_of(*sources[k]));
    }
  }
}

TEMPLATE_TEST_CASE("gated_activation on a GPU moves each byte once", "[gated_activation][simt][traffic]", Bf16, float) {
  Case<TestType> c(9, 512);
  const auto once = static_cast<std::uint64_t>(c.h.bytes());
  c.forward(0);
  const simt::Traffic h = c.h.take_traffic();
  CHECK((c.gate.take_traffic().read == once && c.up.take_traffic().read == once && h.read == 0 && h.written == once));
  c.backward(0);
  const simt::Traffic gate = c.gate.take_traffic(), up = c.up.take_traffic(), dh = c.dh.take_traffic();
  for (const simt::Traffic& overwritten : {gate, up, dh}) CHECK((overwritten.read == once && overwritten.written == once));
}

TEMPLATE_TEST_CASE("gated_activation on a GPU gives the same bits in any order", "[gated_activation][simt]", Bf16, float) {
  check_order([] {
    Case<TestType> c(8, 70, kMisaligned);
    c.forward(1);
    c.backward(1);
    return joined({c.h.bits(), c.gate.bits(), c.up.bits(), c.dh.bits()});
  });
}

TEMPLATE_TEST_CASE("gated_activation on a GPU takes extremes and shows NaN", "[gated_activation][simt]", Bf16, float) {
  for (const int activation : {0, 1}) {
    Case<TestType> c(1, 8);
    const double extremes[] = {-1e4, 1e4, -90, 90, 0, NAN, -1e-30, 20};
    for (std::int64_t j = 0; j < 8; ++j) c.gate.at(0, j) = rounded<TestType>(extremes[j]);
    const std::vector<double> up = values_of(c.up), dh = values_of(c.dh), gate = values_of(c.gate);
    c.forward(activation);
    c.backward(activation);
    for (std::size_t j = 0; j < 8; ++j) {
      const auto column = static_cast<std::int64_t>(j);
      if (std::isnan(gate[j])) {
        for (const auto* one : {&c.h, &c.dh, &c.gate, &c.up}) CHECK(std::isnan((*one)(0, column)));
        continue;
      }
      const Value v = evaluate(gate[j], activation);
      for (const auto* h : {&c.h, &c.dh}) CHECK((*h)(0, column) == Approx(v.act * up[j]).epsilon(4e-3).margin(1e-30));
      CHECK(c.gate(0, column) == Approx(dh[j] * up[j] * v.slope).epsilon(4e-3).margin(1e-6));
      CHECK(c.up(0, column) == Approx(dh[j] * v.act).epsilon(4e-3).margin(1e-30));
    }
  }
}

TEST_CASE("gated_activation on a GPU counts rows in 64 bits", "[gated_activation][simt]") {
  constexpr std::int64_t kFar = (std::int64_t{1} << 31) - 8;
  const Buffer<Bf16> gate(kFar + 16), up(kFar + 16), h(kFar + 16), dh(kFar + 16);
  Case<Bf16> c(2, 16);
  const auto at = [](const Buffer<Bf16>& b, std::int64_t i, std::int64_t j) -> Bf16& {
    return b[static_cast<std::size_t>(i * kFar + j)];
  };
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 16; ++j) {
      at(gate, i, j) = c.gate.at(i, j);
      at(up, i, j) = c.up.at(i, j);
      at(dh, i, j) = c.dh.at(i, j);
    }
  }
  c.forward(0);
  c.backward(0);
  launched(graft_gated_forward(DType::bf16, {gate.data(), up.data(), h.data(), kFar, kFar, kFar, 2, 16, 0}, nullptr));
  launched(graft_gated_backward(DType::bf16, {dh.data(), gate.data(), up.data(), kFar, kFar, kFar, 2, 16, 0}, nullptr));
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 16; ++j) {
      CHECK(at(h, i, j).bits == c.h.at(i, j).bits);
      CHECK(at(gate, i, j).bits == c.gate.at(i, j).bits);
      CHECK(at(up, i, j).bits == c.up.at(i, j).bits);
      CHECK(at(dh, i, j).bits == c.dh.at(i, j).bits);
    }
  }
}

}  // namespace graft::cuda
