#include "kernels/simt/simt.h"

#include <cmath>

#include "kernels/simt/device.h"
#include "kernels/simt/faulty_kernels.h"
#include "tests/support/catch.h"

namespace graft::simt {
namespace {

Buffer<float> ramp(std::size_t n) {
  Buffer<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i);
  return x;
}

std::string fault_of(const std::string& kernel, unsigned blocks = 1, unsigned threads = 64) {
  const Buffer<float> in = ramp(64), out(256);
  try {
    cuda::run_named(kernel, blocks, threads, in.data(), out.data());
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

struct Restore {
  Options before = options();
  ~Restore() { options() = before; }
};

}  // namespace

TEST_CASE("simt runs threads, barriers and the operations of a warp", "[simt]") {
  const Restore restore;
  for (std::uint64_t order = 1; order < 6; ++order) {
    options().order = order;
    const Buffer<float> in = ramp(64), out(64);
    cuda::run_named("reverse", 1, 64, in.data(), out.data());
    for (std::size_t i = 0; i < 64; ++i) CHECK(out[i] == 63 - static_cast<float>(i));
    cuda::run_named("reverse_in_warp", 1, 64, in.data(), out.data());
    for (std::size_t i = 0; i < 64; ++i) CHECK(out[i] == static_cast<float>(i ^ 31));
    cuda::run_named("copy", 1, 64, in.data(), out.data());
    for (std::size_t i = 0; i < 64; ++i) CHECK(out[i] == (i < 62 ? static_cast<float>(i) : 0));
    cuda::run_named("votes", 1, 64, in.data(), out.data());
    for (std::size_t i = 0; i < 64; ++i) CHECK(out[i] == static_cast<float>(i ^ 15) + 10100 + (i >= 32 ? 1000 : 0));
    out[0] = out[1] = 0;
    cuda::run_named("atomics", 3, 64, in.data(), out.data());
    CHECK((out[0] == 192 && out[1] == 63));
  }
}

TEST_CASE("simt reports what a GPU leaves undefined", "[simt]") {
  CHECK(contains(fault_of("past_the_end"), "a read of 4 bytes outside of every buffer"));
  CHECK(contains(fault_of("past_shared"), "outside of every shared array"));
  CHECK(contains(fault_of("never_written"), "never written"));
  CHECK(contains(fault_of("misaligned"), "not a multiple of 16"));
  CHECK(contains(fault_of("divergent_barrier"), "different barriers"));
  CHECK(contains(fault_of("exited_before_barrier"), "a barrier is not reached by all threads"));
  CHECK(contains(fault_of("lane_exited"), "lane 8 of warp 1 has exited"));
  CHECK(contains(fault_of("lane_at_barrier"), "lane 3 of warp 0 waits at a barrier"));
  CHECK(contains(fault_of("not_in_mask"), "lane 31 is not in its own mask"));
  CHECK(contains(fault_of("reverse_in_warp", 1, 40), "lane 8 of warp 1 is in a mask but does not exist"));
  CHECK(contains(fault_of("copy_never_waited"), "copies that nobody waited for"));
  CHECK(contains(fault_of("across_blocks", 2), "a write of global memory races with thread"));
  CHECK(contains(fault_of("read_across_blocks", 2), "of another block"));
  CHECK(fault_of("across_blocks", 1) == "");
  CHECK(contains(fault_of("reverse", 1, 2048), "no GPU takes this"));
  CHECK(fault_of("reverse") == "");
}

TEST_CASE("simt reports a race where a barrier was dropped, and NaN where a wait was", "[simt]") {
  const Restore restore;
  const Buffer<float> in = ramp(64), out(64);
  for (const char* kernel : {"reverse", "reverse_in_warp", "copy"}) {
    options().dropped = {};
    take_sync_points();
    cuda::run_named(kernel, 1, 64, in.data(), out.data());
    const auto points = take_sync_points();
    CHECK(points.size() == (std::string(kernel) == "copy" ? 2 : 1));
    for (const SyncPoint& point : points) {
      for (std::uint64_t order = 1; order < 20; ++order) {
        options() = {order, 1, point};
        INFO(kernel << " without line " << point.line);
        CHECK_FALSE(fault_of(kernel).empty());
      }
    }
  }
}

TEST_CASE("simt counts the bytes of each buffer", "[simt]") {
  const Buffer<float> in = ramp(64), out(64);
  cuda::run_named("reverse", 1, 64, in.data(), out.data());
  const Traffic read = in.take_traffic(), written = out.take_traffic();
  CHECK((read.read == 256 && read.written == 0 && written.read == 0 && written.written == 256));
  CHECK(in.take_traffic().read == 0);
}

TEST_CASE("simt's approximate functions are off by up to 2 ulp, otherwise for each seed", "[simt]") {
  const Restore restore;
  int off[5] = {};
  for (std::uint64_t noise = 1; noise < 200; ++noise) {
    options().noise = noise;
    const float got = approximate(3, 7);
    CHECK(got == approximate(3, 7));
    const auto ulp = static_cast<std::size_t>(std::bit_cast<std::int32_t>(got) - std::bit_cast<std::int32_t>(3.f) + 2);
    REQUIRE(ulp < 5);
    ++off[ulp];
  }
  for (const int count : off) CHECK(count > 10);
  CHECK((approximate(0, 1) == 0 && std::isinf(approximate(1e300, 1)) && std::isnan(approximate(NAN, 1))));
  CHECK(approximate(0x1p-149, 1) == 0x1p-149f);
}

TEST_CASE("simt's matrix products have the layout of the instruction", "[simt]") {
  const Buffer<float> in(24 * 16), out(16 * 16);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i * 37 % 61) - 30;  // exact in bf16, sums in f32
  cuda::run_named("product", 1, 32, in.data(), out.data());
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < 16; ++k) sum += in[i * 16 + k] * in[(16 + j) * 16 + k];
      CHECK(out[i * 8 + j] == sum);
    }
  }
  cuda::run_named("transposed", 1, 32, in.data(), out.data());
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 16; ++j) {
      const std::size_t row = i % 8,
                        column = j % 8;  // quarter (i / 8, j / 8) of the output is quarter (j / 8, i / 8), transposed
      CHECK(out[i * 16 + j] == in[(j / 8 * 8 + column) * 16 + i / 8 * 8 + row]);
    }
  }
}

}  // namespace graft::simt
