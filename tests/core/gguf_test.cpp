#include "core/gguf.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

const fs::path kGolden = fs::path(GRAFT_SOURCE_DIR) / "tests/golden/core";

fs::path scratch(const std::string& name) { return fs::temp_directory_path() / cat("graft-gguf-", getpid(), "-", name); }

const GgmlType kReadable[] = {GgmlType::f32,  GgmlType::f16,  GgmlType::bf16, GgmlType::q8_0, GgmlType::q4_0, GgmlType::q4_1,
                              GgmlType::q5_0, GgmlType::q5_1, GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k};

}  // namespace

TEST_CASE("every type decodes to the bits of the reference", "[gguf]") {  // goldens: scripts/make_golden_gguf.py
  for (GgmlType type : kReadable) {
    const GgmlTypeInfo& info = info_of(type);
    INFO(info.name);
    const std::string blocks = read_file(kGolden / cat(info.name, ".blocks")),
                      expected = read_file(kGolden / cat(info.name, ".f32"));
    const std::size_t n = blocks.size() / static_cast<std::size_t>(info.bytes) * static_cast<std::size_t>(info.block);
    REQUIRE(expected.size() == n * sizeof(float));
    std::vector<float> out(n + 1, std::numeric_limits<float>::quiet_NaN());
    // From an odd address, as in a mapped file.
    std::string shifted = "x" + blocks;
    dequantize(type, reinterpret_cast<const std::byte*>(shifted.data()) + 1, static_cast<std::int64_t>(n), out.data());
    CHECK(std::memcmp(out.data(), expected.data(), expected.size()) == 0);
    CHECK(std::isnan(out[n]));
  }
}

TEST_CASE("F16, BF16 and Q8_0 encode to the bits of the reference", "[gguf]") {
  const std::string input = read_file(kGolden / "quantize.f32");
  std::vector<float> values(input.size() / sizeof(float));
  std::memcpy(values.data(), input.data(), input.size());
  for (GgmlType type : {GgmlType::f16, GgmlType::bf16, GgmlType::q8_0}) {
    const std::string expected = read_file(kGolden / cat("quantize.", info_of(type).name));
    std::string out(expected.size(), '\xAA');
    quantize(type, values.data(), static_cast<std::int64_t>(values.size()), reinterpret_cast<std::byte*>(out.data()));
    INFO(info_of(type).name);
    CHECK(out == expected);
  }
}

TEST_CASE("what cannot be encoded or decoded says so", "[gguf]") {
  std::vector<float> values(256, 1.f);
  std::vector<std::byte> bytes(1024);
  CHECK_THROWS_WITH(quantize(GgmlType::q4_0, values.data(), 32, bytes.data()),
                    "weights cannot be written as Q4_0; choose F16, BF16 or Q8_0");
  CHECK_THROWS_AS(dequantize(GgmlType::q2_k, bytes.data(), 256, values.data()), UnsupportedError);
  for (float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    values[7] = bad;
    CHECK_THROWS_WITH(quantize(GgmlType::q8_0, values.data(), 32, bytes.data()), "a weight is not finite; Q8_0 cannot hold it");
  }
  CHECK_THROWS_AS(info_of(static_cast<GgmlType>(4)), FormatError);
}

TEST_CASE("a GGUF file of the reference's writer is read", "[gguf]") {
  const GgufFile file(kGolden / "sample.gguf");
  CHECK(file.string("general.architecture") == "llama");
  CHECK(file.integer("test.u8") == 200);
  CHECK(file.integer("test.i8") == -100);
  CHECK(file.integer("test.u16") == 60000);
  CHECK(file.integer("test.i16") == -30000);
  CHECK(file.integer("test.u32") == 4000000000);
  CHECK(file.integer("test.i32") == -2000000000);
  CHECK(file.number("test.f32") == 0.1f);
  CHECK(file.number("test.u8") == 200);
  CHECK(file.boolean_or("test.bool", false));
  CHECK_FALSE(file.boolean_or("absent", false));
  CHECK(file.string("test.string") == "naïve ✓");
  CHECK(file.integer("test.i64") == std::numeric_limits<std::int64_t>::min());
  CHECK(file.number("test.f64") == 0.1);
  CHECK(file.strings("test.strings") == std::vector<std::string>{"a", "", "ĠĊ"});
  CHECK(file.integers("test.integers") == std::vector<std::int64_t>{1, -2, 3});
  CHECK(file.numbers("test.numbers") == std::vector<double>{0.5, -1.5});
  CHECK(file.integer_or("absent", 5) == 5);
  CHECK(file.number_or("absent", 0.5) == 0.5);
  CHECK(file.string_or("absent", "x") == "x");

  const std::string where = file.path().string();
  CHECK_THROWS_WITH(file.integer("absent"), where + ": the key 'absent' is missing");
  CHECK_THROWS_WITH(file.integer("test.string"), where + ": the key 'test.string' is not an integer below 2^63");
  CHECK_THROWS_WITH(file.integer("test.u64"), where + ": the key 'test.u64' is not an integer below 2^63");
  CHECK_THROWS_WITH(file.strings("test.integers"), where + ": the key 'test.integers' is not an array of strings");
  CHECK_THROWS_WITH(file.numbers("test.integers"), where + ": the key 'test.integers' is not an array of floating-point numbers");
  CHECK_THROWS_AS(file.boolean_or("test.u8", false), FormatError);

  REQUIRE(file.tensors().size() == 3);
  CHECK(file.find("none") == nullptr);
  const GgufTensor* a = file.find("a.weight");
  REQUIRE(a);
  CHECK(a->shape == std::vector<std::int64_t>{2, 3});
  std::vector<float> values(6);
  dequantize(a->type, file.data(*a).data(), 6, values.data());
  CHECK(values == std::vector<float>{0, 1, 2, 3, 4, 5});
  const GgufTensor* c = file.find("c.weight");
  REQUIRE(c);
  CHECK(c->type == GgmlType::q8_0);
  CHECK(c->shape == std::vector<std::int64_t>{2, 3, 64});
  CHECK(c->bytes == 384 / 32 * 34);
}

TEST_CASE("our writer makes the same file, byte for byte", "[gguf]") {
  const GgufFile golden(kGolden / "sample.gguf");
  const fs::path path = scratch("copy");
  GgufWriter writer(path);
  writer.string("general.architecture", "llama");
  writer.pair("test.u8", {GgufType::u8, false, std::uint64_t{200}});
  writer.pair("test.i8", {GgufType::i8, false, std::int64_t{-100}});
  writer.pair("test.u16", {GgufType::u16, false, std::uint64_t{60000}});
  writer.pair("test.i16", {GgufType::i16, false, std::int64_t{-30000}});
  writer.u32("test.u32", 4000000000);
  writer.pair("test.i32", {GgufType::i32, false, std::int64_t{-2000000000}});
  writer.f32("test.f32", 0.1f);
  writer.boolean("test.bool", true);
  for (const char* key : {"test.string", "test.u64", "test.i64", "test.f64", "test.strings", "test.integers", "test.numbers"})
    writer.pair(key, golden.pairs().at(key));
  for (const GgufTensor& tensor : golden.tensors()) writer.tensor(tensor.name, tensor.shape, tensor.type);
  const auto& tensors = golden.tensors();
  const bool placed = GENERATE(false, true);
  if (placed) writer.start();
  for (std::size_t k = 0; k < tensors.size(); ++k) {  // in two pieces
    const std::size_t from_end = tensors.size() - 1 - k;
    const auto bytes = golden.data(tensors[placed ? from_end : k]);
    if (placed) {
      writer.place(from_end, 7, bytes.data() + 7, bytes.size() - 7);
      writer.place(from_end, 0, bytes.data(), 7);
    } else {
      writer.data(tensors[k].name, bytes.data(), 7);
      writer.data(tensors[k].name, bytes.data() + 7, bytes.size() - 7);
    }
  }
  const std::string hash = writer.commit();
  CHECK(read_file(path) == read_file(kGolden / "sample.gguf"));
  CHECK(hash == sha256_file(path));
  fs::remove(path);
}

TEST_CASE("a writer used wrongly stops before it writes nonsense", "[gguf]") {
  const fs::path path = scratch("wrong");
  {
    GgufWriter writer(path);
    writer.u32("a", 1);
    CHECK_THROWS_WITH(writer.u32("a", 1), "GGUF key a is declared twice");
    CHECK_THROWS_AS(writer.tensor("x", {33}, GgmlType::q8_0), std::logic_error);
    CHECK_THROWS_AS(writer.tensor("x", {}, GgmlType::f32), std::logic_error);
    writer.tensor("x", {2}, GgmlType::f32);
    writer.tensor("y", {2}, GgmlType::f32);
    const float data[3] = {};
    CHECK_THROWS_WITH(writer.data("y", data, 8), "GGUF data of y comes where x is expected");
    CHECK_THROWS_WITH(writer.data("x", data, 12), "GGUF tensor x takes 8 bytes, not 12");
    writer.data("x", data, 8);
    CHECK_THROWS_WITH(writer.commit(), "GGUF tensor y has no data");
  }
  {
    GgufWriter writer(path);
    writer.tensor("x", {2}, GgmlType::f32);
    writer.tensor("y", {2}, GgmlType::f32);
    writer.start();
    const float data[3] = {};
    CHECK_THROWS_WITH(writer.place(0, 4, data, 8), "GGUF tensor x takes 8 bytes, not more");
    writer.place(1, 0, data, 8);
    CHECK_THROWS_WITH(writer.commit(), "GGUF tensors have 8 bytes of 16");
  }
  {
    GgufWriter writer(path);
    writer.pair("a", {GgufType::u8, false, std::uint64_t{256}});
    CHECK_THROWS_AS(writer.commit(), std::logic_error);
  }
  {
    GgufWriter writer(path);
    writer.pair("a", {GgufType::string, false, std::uint64_t{2}});
    CHECK_THROWS_AS(writer.commit(), std::logic_error);
  }
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("decoding a model's worth of Q4_1 is fast", "[gguf]") {
  const std::int64_t n = 8 << 20;
  std::vector<std::byte> blocks(static_cast<std::size_t>(n / 32 * 20), std::byte{0x3c});
  std::vector<float> out(static_cast<std::size_t>(n), 0.f);
  const std::clock_t start = std::clock();
  dequantize(GgmlType::q4_1, blocks.data(), n, out.data());
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  CHECK(seconds * 135e6 / static_cast<double>(n) < 1.0);
}
