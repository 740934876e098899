#include "kernels/cpu/nf4.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/gemm.h"
#include "kernels/nf4/nf4.h"
#include "kernels/nf4/nf4_weight.h"
#include "tests/support/catch.h"
#include "tests/support/elements.h"
#include "tests/support/tensors.h"

namespace graft::kernels::cpu {
namespace {

using namespace graft::testing;

using Sizes = std::vector<std::pair<std::int64_t, std::int64_t>>;
// Blocks that begin in rows, bytes shared by rows, a last block of one element, more than a group of blocks.
const Sizes kSizes = {{1, 1}, {1, 63}, {1, 64}, {5, 13}, {3, 65}, {9, 64}, {70, 96}, {40, 1000}, {7, 2056}, {66, 256}};

int code_of(const Nf4Weight& weight, std::int64_t i) {
  return weight.codes.const_data_ptr<std::uint8_t>()[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15;
}

// What nf4.h says is read back, element for element.
at::Tensor formula(const Nf4Weight& weight) {
  const auto map = cuda::nf4_scale_map();
  at::Tensor out = at::empty({weight.out(), weight.in()}, at::kFloat);
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    volatile float scale = map[weight.scales.const_data_ptr<std::uint8_t>()[i / 64]];  // volatile: each operation is rounded
    scale = scale * weight.group_scales.const_data_ptr<float>()[i / 64 / 256];
    scale = scale + weight.offset;
    out.mutable_data_ptr<float>()[i] = cuda::kNf4Levels[static_cast<std::size_t>(code_of(weight, i))] * scale;
  }
  return out;
}

// Every code in both halves of a byte, at an odd address, and what lies behind the block stays as it is.
template <class Element, class LookUp>
void check_look_up(const LookUp& look_up) {
  std::array<std::uint8_t, 33> bytes{};
  std::array<Element, 16> values{};
  std::array<Element, 66> out{};
  for (std::size_t i = 0; i < 16; ++i) values[i] = static_cast<Element>(1000 + i);
  for (int turn = 0; turn < 16; ++turn) {
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>((static_cast<int>(i) * 23 + turn * 17) % 256);
    out.fill(static_cast<Element>(7));
    look_up(bytes.data() + 1, values.data(), out.data() + 1);
    for (std::size_t i = 0; i < 64; ++i) {
      const int byte = bytes[1 + i / 2], code = i % 2 == 0 ? byte / 16 : byte % 16;
      REQUIRE(out[1 + i] == values[static_cast<std::size_t>(code)]);
    }
    CHECK((out[0] == static_cast<Element>(7) && out[65] == static_cast<Element>(7)));
  }
}

template <class Element>
void check_rectangles() {
  const Nf4Weight weight(random({13, 200}, 1));
  const at::Tensor whole = weight.values(kType<Element>);
  for (const std::int64_t row : {0, 4})
    for (const std::int64_t column : {0, 1, 24, 56, 64})
      for (const std::int64_t columns : {1, 7, 64, 65, 136}) {
        INFO("from " << row << ", " << column << ", " << columns << " columns");
        at::Tensor out = nan_like(at::empty({9, columns + 3}, kType<Element>));
        dequantize(weight.view(), row, 9, column, columns, data<Element>(out), out.stride(0));
        CHECK(same_bits(out.narrow(1, 0, columns), whole.narrow(0, row, 9).narrow(1, column, columns)));
        CHECK(out.narrow(1, columns, 3).isnan().all().item<bool>());
      }
}

// The packed numbers are those of the dense weight, and so are the products to the last bit.
template <class Element>
void check_products() {
  const at::ScalarType type = kType<Element>;
  struct Shape {
    std::int64_t rows, in, out;
  };
  for (const Shape& s : {Shape{1, 2, 2}, {7, 66, 130}, {64, 64, 64}, {253, 300, 48}, {70, 128, 1030}, {40, 258, 66}})
    for (const bool transposed : {true, false}) {
      INFO(s.rows << " rows, " << s.in << " -> " << s.out << (transposed ? ", transposed" : ""));
      const Nf4Weight weight(random({s.out, s.in}, 1));
      const at::Tensor numbers = weight.values(type);
      const std::int64_t k = transposed ? s.in : s.out, n = transposed ? s.out : s.in;
      const at::Tensor x = random({s.rows, k}, 2, type), low = random({s.rows, 4}, 3, type), bias = random({n}, 4, type);
      const at::Tensor b = transposed ? random({n, 4}, 5, type) : random({4, n}, 5, type);
      const auto product = [&](bool coded, int threads) {
        const int before = at::get_num_threads();
        at::set_num_threads(threads);
        at::Tensor out = random({s.rows, n}, 6, type);
        Term<Element> frozen{data<Element>(x), k, coded ? nullptr : data<Element>(numbers), s.in, k, transposed};
        if (coded) frozen.nf4 = weight.view();
        const Term<Element> rest{data<Element>(low), 4, data<Element>(b), b.stride(0), 4, transposed};
        gemm(std::vector<Job<Element>>{{data<Element>(out), n, s.rows, n, {frozen, rest}, data<Element>(bias), true}});
        at::set_num_threads(before);
        return out;
      };
      const at::Tensor want = product(false, 1);
      for (const int threads : {1, 2, 3}) CHECK(same_bits(product(true, threads), want));
    }
}

}  // namespace

TEST_CASE("NF4 looks up the same values on every instruction set", "[cpu][nf4]") {
  check_look_up<float>([](auto... a) { look_up(a...); });
  check_look_up<Bf16Bits>([](auto... a) { look_up(a...); });
  if (isa() >= Isa::avx2) check_look_up<float>(look_up_avx2);
  if (isa() >= Isa::avx512) check_look_up<float>(look_up_avx512);
  if (isa() >= Isa::avx512_bf16) check_look_up<Bf16Bits>(look_up_avx512_bf16);
}

TEST_CASE("a weight in NF4 has the nearest levels and is read back by the formula", "[cpu][nf4]") {
  const PoisonedAllocations poisoned;
  for (const auto& [out, in] : kSizes) {
    INFO(out << " x " << in);
    at::Tensor source = random({out, in}, 1, at::kFloat, 0.02);
    if (source.numel() > 200) source.view(-1).narrow(0, 64, 64).zero_();
    const Nf4Weight weight(source);
    CHECK((weight.out() == out && weight.in() == in));
    CHECK(weight.bytes() ==
          static_cast<std::int64_t>(weight.codes.nbytes() + weight.scales.nbytes() + weight.group_scales.nbytes()));
    bool nearest = true;
    const auto* const x = source.const_data_ptr<float>();
    for (std::int64_t first = 0; first < source.numel(); first += 64) {
      const std::int64_t count = std::min<std::int64_t>(64, source.numel() - first);
      const double largest = source.view(-1).narrow(0, first, count).abs().max().item<double>();
      for (std::int64_t i = first; i < first + count; ++i) {
        const auto distance = [&](float level) {
          return std::abs(static_cast<double>(level) * largest - static_cast<double>(x[i]));
        };
        double best = distance(1);
        for (const float level : cuda::kNf4Levels) best = std::min(best, distance(level));
        const double got = distance(cuda::kNf4Levels[static_cast<std::size_t>(code_of(weight, i))]);
        nearest = nearest && got <= best + 1e-7 * largest;  // between two levels, to f32
      }
    }
    CHECK(nearest);
    if (source.numel() % 2 == 1) CHECK(code_of(weight, source.numel()) == 7);
    const at::Tensor want = formula(weight);
    CHECK(same_bits(weight.values(at::kFloat), want));
    CHECK(same_bits(weight.values(at::kBFloat16), want.to(at::kBFloat16)));
    if (source.numel() > 1000) CHECK(relative_error(want, source) < 0.11);  // of a normal distribution: 0.095 or so
    const Nf4Weight of_bf16(source.to(at::kBFloat16)), of_its_values(source.to(at::kBFloat16).to(at::kFloat));
    CHECK(same_bits(of_bf16.codes, of_its_values.codes));
    CHECK(same_bits(of_bf16.scales, of_its_values.scales));
  }
  CHECK(Nf4Weight(at::zeros({3, 70})).values(at::kFloat).eq(0).all().item<bool>());
}

TEST_CASE("rectangles of a weight in NF4 are those of the whole, and nothing else is written", "[cpu][nf4]") {
  check_rectangles<float>();
  check_rectangles<Bf16Bits>();
}

TEST_CASE("products with a weight in NF4 have the bits of those with its numbers, whatever the threads", "[cpu][nf4]") {
  check_products<float>();
  if (has_bf16_dot()) check_products<Bf16Bits>();
}

TEST_CASE("a weight that NF4 cannot hold is refused", "[cpu][nf4]") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    at::Tensor weight = random({3, 70}, 1);
    weight[1][69] = bad;
    CHECK(message_of([&] { Nf4Weight{weight}; }) == "a weight is not finite");
  }
  CHECK(message_of([] { Nf4Weight{at::ones({3})}; }).find("nf4_weight: weight ") == 0);
}

}  // namespace graft::kernels::cpu
