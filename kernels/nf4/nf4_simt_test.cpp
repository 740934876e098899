#include <algorithm>

#include "kernels/nf4/nf4.h"
#include "tests/support/simt.h"

namespace graft::cuda {
namespace {

using namespace graft::testing;

constexpr float kLevels[16] = {-1.0f,
                               -0.6961928009986877f,
                               -0.5250730514526367f,
                               -0.39491748809814453f,
                               -0.28444138169288635f,
                               -0.18477343022823334f,
                               -0.09105003625154495f,
                               0.0f,
                               0.07958029955625534f,
                               0.16093020141124725f,
                               0.24611230194568634f,
                               0.33791524171829224f,
                               0.44070982933044434f,
                               0.5626170039176941f,
                               0.7229568362236023f,
                               1.0f};

Buffer<float> scale_map() {
  const auto map = nf4_scale_map();
  return Buffer<float>(std::vector<float>(map.begin(), map.end()));
}

template <class T>
struct Case {
  std::int64_t rows, columns, count, blocks;
  Matrix<T> weight, back;
  Buffer<std::uint8_t> codes, scales8;
  Buffer<float> scales, offset{1}, group_scales, map = scale_map();

  Case(std::int64_t r, std::int64_t c, Layout out = kDense)
      : rows(r),
        columns(c),
        count(r * c),
        blocks((count + 63) / 64),
        weight(filled<T>(1, count, 1, kDense, 0.02)),
        back(r, c, out),
        codes(static_cast<std::size_t>((count + 1) / 2)),
        scales8(static_cast<std::size_t>(blocks)),
        scales(static_cast<std::size_t>(blocks)),
        group_scales(static_cast<std::size_t>((blocks + 255) / 256)) {}

  void quantize() {
    launched(graft_nf4_quantize(kType<T>, {weight.data(), codes.data(), scales.data(), count}, nullptr));
    quantize_scales();
  }
  // By the definition (nf4.h), as the host does.
  void quantize_scales() {
    double sum = 0;
    for (std::int64_t b = 0; b < blocks; ++b) sum += static_cast<double>(scales[static_cast<std::size_t>(b)]);
    offset[0] = static_cast<float>(sum / static_cast<double>(std::max<std::int64_t>(1, blocks)));
    for (std::size_t first = 0; first < scales.size(); first += 256) {
      const std::size_t last = std::min(first + 256, scales.size());
      float largest = 0;
      for (std::size_t b = first; b < last; ++b) largest = std::max(largest, std::abs(scales[b] - offset[0]));
      group_scales[first / 256] = largest;
      for (std::size_t b = first; b < last; ++b) {
        const float x = largest > 0 ? (scales[b] - offset[0]) / largest : 0;
        std::size_t best = 0;
        for (std::size_t k = 1; k < 256; ++k)
          if (std::abs(map[k] - x) < std::abs(map[best] - x)) best = k;
        scales8[b] = static_cast<std::uint8_t>(best);
      }
    }
  }
  void dequantize() {
    launched(graft_nf4_dequantize(
        kType<T>,
        {codes.data(), scales8.data(), group_scales.data(), offset.data(), map.data(), back.data(), back.stride(), rows, columns},
        nullptr));
  }
  int code(std::int64_t i) const { return codes[static_cast<std::size_t>(i / 2)] >> (i % 2 == 0 ? 4 : 0) & 15; }
};

int nearest_level(double x) {
  int best = 0;
  for (int i = 1; i < 16; ++i)
    if (std::abs(static_cast<double>(kLevels[i]) - x) < std::abs(static_cast<double>(kLevels[best]) - x)) best = i;
  return best;
}

}  // namespace

TEST_CASE("the map of NF4's scales is bitsandbytes' signed dynamic one", "[nf4][simt]") {
  const auto map = nf4_scale_map();
  CHECK(std::is_sorted(map.begin(), map.end()));
  CHECK(std::adjacent_find(map.begin(), map.end()) == map.end());
  // bitsandbytes.functional.create_dynamic_map(signed=True): first, second, smallest positive, last values.
  CHECK(map[0] == -0.99296874f);
  CHECK(map[1] == -0.97890627f);
  CHECK(map[127] == 0.f);
  CHECK(map[128] == 5.5e-7f);
  CHECK(map[254] == 0.99296874f);
  CHECK(map[255] == 1.f);
}

TEMPLATE_TEST_CASE("NF4 on a GPU takes the nearest level and the largest of a block", "[nf4][simt]", Bf16, float) {
  for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 8}, {1, 1}, {1, 63}, {1, 64}, {5, 13}, {3, 65}, {20, 1000}, {70, 512}, {2, 1024}}) {
    Case<TestType> c(rows, columns);
    if (c.count > 200)
      for (std::int64_t i = 64; i < 128; ++i) c.weight.at(0, i) = rounded<TestType>(0);  // a block of zeros
    c.quantize();
    for (std::int64_t b = 0; b < c.blocks; ++b) {
      double largest = 0;
      for (std::int64_t i = 64 * b; i < std::min(c.count, 64 * b + 64); ++i)
        largest = std::max(largest, std::abs(c.weight(0, i)));
      REQUIRE(static_cast<double>(c.scales[static_cast<std::size_t>(b)]) == largest);
    }
    for (std::int64_t i = 0; i < c.count; ++i) {
      const double scale = static_cast<double>(c.scales[static_cast<std::size_t>(i / 64)]),
                   x = scale > 0 ? c.weight(0, i) / scale : 0;
      const int want = nearest_level(x), got = c.code(i);
      const auto distance = [&](int code) { return std::abs(static_cast<double>(kLevels[code]) - x); };
      REQUIRE((got == want || std::abs(distance(got) - distance(want)) < 1e-7));  // between two levels, to f32
    }
    if (c.count % 2 == 1) CHECK(c.code(c.count) == 7);  // the half byte behind the last is level 0
  }
}

TEMPLATE_TEST_CASE("NF4 on a GPU comes back", "[nf4][simt]", Bf16, float) {
  for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {1, 64}, {5, 13}, {3, 65}, {9, 64}, {40, 1000}, {7, 2056}, {8, 2048}, {2, 2101}}) {
    for (const Layout layout : {kDense, kPadded, kMisaligned}) {
      INFO(rows << " x " << columns << ", offset " << layout.offset);
      Case<TestType> c(rows, columns, layout);
      c.quantize();
      const float offset = c.offset[0];
      c.dequantize();
      bool equal = true;
      for (std::int64_t i = 0; i < c.count; ++i) {
        const auto b = static_cast<std::size_t>(i / 64);
        const float scale = c.map[c.scales8[b]] * c.group_scales[b / 256] + offset;
        const auto want = rounded<TestType>(static_cast<double>(kLevels[c.code(i)] * scale));
        equal = equal && value_of(want) == c.back(i / columns, i % columns);
      }
      CHECK(equal);
      CHECK(c.back.gaps_untouched());
      if (c.count > 1000) CHECK(relative_error(c.back, values_of(c.weight)) < 0.11);  // of a normal distribution: 0.095 or so
    }
  }
}

TEMPLATE_TEST_CASE("NF4 on a GPU moves each byte once and shows NaN", "[nf4][simt][traffic]", Bf16, float) {
  Case<TestType> c(8, 1024);
  launched(graft_nf4_quantize(kType<TestType>, {c.weight.data(), c.codes.data(), c.scales.data(), c.count}, nullptr));
  CHECK(c.weight.take_traffic().read == static_cast<std::uint64_t>(c.weight.bytes()));
  CHECK((c.codes.take_traffic().written == 4096 && c.scales.take_traffic().written == 512));
  c.quantize_scales();
  c.dequantize();
  CHECK((c.codes.take_traffic().read == 4096 && c.back.take_traffic().written == static_cast<std::uint64_t>(c.back.bytes())));
  c.weight.at(0, 70) = rounded<TestType>(NAN);
  c.quantize();
  c.dequantize();
  CHECK((std::isnan(c.scales[1]) && !std::isnan(c.scales[0]) && std::isnan(c.back(0, 70))));
}

TEMPLATE_TEST_CASE("NF4 on a GPU writes and reads codes at any address", "[nf4][simt]", Bf16, float) {
  Case<TestType> c(5, 64), beside(5, 64);
  c.quantize();
  const auto size = static_cast<std::size_t>(c.count / 2);
  const Buffer<std::uint8_t> codes(size + 1);
  launched(graft_nf4_quantize(kType<TestType>, {c.weight.data(), codes.data() + 1, c.scales.data(), c.count}, nullptr));
  for (std::size_t i = 0; i < size; ++i) CHECK(codes[i + 1] == c.codes[i]);
  CHECK(codes[0] == 0xff);
  c.dequantize();
  launched(graft_nf4_dequantize(
      kType<TestType>,
      {codes.data() + 1, c.scales8.data(), c.group_scales.data(), c.offset.data(), c.map.data(), beside.back.data(), 64, 5, 64},
      nullptr));
  CHECK(beside.back.bits() == c.back.bits());
}

TEMPLATE_TEST_CASE("NF4 on a GPU gives the same bits in any order", "[nf4][simt]", Bf16, float) {
  check_order([] {
    Case<TestType> c(60, 500);
    c.quantize();
    c.dequantize();
    return c.back.bits();
  });
}

TEST_CASE("NF4 on a GPU counts elements in 64 bits", "[nf4][simt]") {
  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  Case<Bf16> c(3, 64);
  const Buffer<Bf16> far(2 * kFar + 64);
  c.quantize();
  c.dequantize();
  launched(graft_nf4_dequantize(
      DType::bf16,
      {c.codes.data(), c.scales8.data(), c.group_scales.data(), c.offset.data(), c.map.data(), far.data(), kFar, 3, 64},
      nullptr));
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 64; ++j) CHECK(far[static_cast<std::size_t>(i * kFar + j)].bits == c.back.at(i, j).bits);
}

}  // namespace graft::cuda
