// Quantizers against llama.cpp's and compressed-tensors' own on the same weights (tests/golden/export/quantize/make.py).
#include <cstring>
#include <limits>

#include "core/json.h"
#include "core/safetensors.h"
#include "export/gguf_mix.h"
#include "export/quantize/ggml.h"
#include "export/quantize/grid.h"
#include "model/awq_words.h"
#include "model/fp8_layout.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"

using namespace graft;
using namespace graft::testing;
using exports::GgufFileType;

namespace {

const fs::path kGolden = golden("quantize");

const GgmlType kBlocks[] = {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1,
                            GgmlType::q8_0, GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k};

at::Tensor golden_floats(const char* name) {
  const std::string bytes = read_file(kGolden / name);
  at::Tensor values = at::empty({static_cast<std::int64_t>(bytes.size() / 1024), 256}, at::kFloat);
  REQUIRE(bytes.size() == values.nbytes());
  std::memcpy(values.mutable_data_ptr(), bytes.data(), bytes.size());
  return values;
}

model::CompressedScheme scheme_named(const std::string& name) {
  using model::CompressedFormat;
  if (name == "w8a8") return {CompressedFormat::integer, 8, 0, true};
  if (name == "fp8") return {CompressedFormat::floating, 8, 0, true};
  if (name == "w8a16_g128") return {CompressedFormat::packed, 8, 128, true};
  if (name == "w4a16_g32") return {CompressedFormat::packed, 4, 32, true};
  return {CompressedFormat::packed, 4, 64, name == "w4a16_g64"};
}

at::Tensor stored(const SafetensorsFile& file, const std::string& name) {
  const SafeTensor& info = file.tensors().at(name);
  const std::map<DType, at::ScalarType> types = {
      {DType::f32, at::kFloat}, {DType::i32, at::kInt}, {DType::i8, at::kChar}, {DType::f8_e4m3, at::kFloat8_e4m3fn}};
  at::Tensor values = at::empty(info.shape, at::TensorOptions().dtype(types.at(info.dtype)));
  REQUIRE(file.data(info).size() == values.nbytes());
  std::memcpy(values.mutable_data_ptr(), file.data(info).data(), values.nbytes());
  return values;
}

}  // namespace

TEST_CASE("blocks have the bytes of llama.cpp's quantizers", "[export][quantize]") {
  const at::Tensor values = golden_floats("weights.f32"), weights = golden_floats("importance.f32")[0];
  const bool weighed = GENERATE(false, true);
  for (const GgmlType type : kBlocks) {
    const GgmlTypeInfo& info = info_of(type);
    INFO(info.name << (weighed ? " with importance" : ""));
    const std::string expected = read_file(kGolden / cat(info.name, weighed ? ".imatrix.blocks" : ".blocks"));
    // 160 is five blocks of 32: four in the lanes of a register, and one.
    const std::int64_t columns = weighed && info.block == 32 ? 160 : 256;
    const std::vector<std::byte> found = exports::quantize_rows(
        values.view({-1, columns}), type, weighed ? weights.narrow(0, 0, columns).contiguous() : at::Tensor());
    REQUIRE(found.size() == expected.size());
    const auto bytes = static_cast<std::size_t>(info.bytes);
    for (std::size_t block = 0; block < found.size() / bytes; ++block) {
      INFO("block " << block);
      CHECK(std::memcmp(found.data() + block * bytes, expected.data() + block * bytes, bytes) == 0);
    }
  }
}

TEST_CASE("codes on a grid are Q4_0's, with the scale and the order of its blocks", "[export][quantize]") {
  // By hand: d = 0.5 (f16 0x3800), codes -8 .. 7 twice; element j in the low nibble of byte j, j + 16 in the high one.
  const at::Tensor codes = at::arange(-8, 8, at::kFloat).repeat({2, 2});
  at::Tensor scale = at::full({2, 1}, 0.5, at::kFloat);
  scale[1][0] = 0x1p-17;
  const std::vector<std::byte> bytes = exports::q4_0_blocks({{scale, {}}, codes});
  REQUIRE(bytes.size() == 36);
  CHECK(bytes[0] == std::byte{0x00});
  CHECK(bytes[1] == std::byte{0x38});
  for (int j = 0; j < 16; ++j) CHECK(bytes[static_cast<std::size_t>(2 + j)] == static_cast<std::byte>(j | j << 4));
  at::manual_seed(11);
  const exports::Rounded rounded = exports::rounded_to_nearest(at::randn({7, 96}, at::kFloat), exports::kQ4_0Grid);
  CHECK(at::equal(exports::dequantized(exports::q4_0_blocks(rounded), GgmlType::q4_0, {7, 96}), rounded.values()));
  CHECK(at::equal(exports::dequantized(bytes, GgmlType::q4_0, {2, 32}), codes * scale));
}

TEST_CASE("blocks that search keep most of the weights, whatever the scale", "[export][quantize]") {
  at::manual_seed(4);
  // Uniform steps of 2^-b of the range leave a relative error of about 2^-b / sqrt(12) * range / rms, range / rms = 5 to 6 for
  // 32 normal values: 0.1, 0.05 and 0.025 for 4, 5 and 6 bits. Twice that is the limit, a wrong nibble order is far beyond it.
  for (const double size : {1e-2, 1.0, 1e2})  // far below, the scales of the blocks are subnormal in f16
    for (const auto& [type, limit] : {std::pair{GgmlType::q4_k, 0.2}, {GgmlType::q5_k, 0.1}, {GgmlType::q6_k, 0.05}}) {
      INFO(info_of(type).name << " " << size);
      const at::Tensor x = at::randn({64, 512}, at::kFloat) * size;
      const at::Tensor y = exports::quantized(x, type);
      CHECK((y - x).norm().item<double>() < limit * x.norm().item<double>());
    }
}

TEST_CASE("a weight that is not finite is refused by type", "[export][quantize]") {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    for (const GgmlType type : kBlocks) {
      at::Tensor x = at::ones({2, 256}, at::kFloat);
      x[1][200] = bad;
      CHECK(message_of<DataError>([&] { exports::quantize_rows(x, type); }) ==
            cat("a weight is not finite; ", info_of(type).name, " cannot hold it"));
    }
}

TEST_CASE("every tensor of a GGUF file has the type that llama-quantize chooses", "[export][quantize]") {
  const std::map<std::string, GgufFileType> files = {
      {"Q4_0", GgufFileType::q4_0},     {"Q4_1", GgufFileType::q4_1},     {"Q5_0", GgufFileType::q5_0},
      {"Q5_1", GgufFileType::q5_1},     {"Q8_0", GgufFileType::q8_0},     {"Q4_K_S", GgufFileType::q4_k_s},
      {"Q4_K_M", GgufFileType::q4_k_m}, {"Q5_K_M", GgufFileType::q5_k_m}, {"Q6_K", GgufFileType::q6_k}};
  const Json cases = read_json(kGolden / "types.json");
  REQUIRE(cases.size() >= 9);
  for (const auto& [name, shape] : cases.items()) {
    model::ModelSpec spec;
    spec.family = shape["family"];
    spec.layers.resize(shape["layers"]);
    spec.heads = shape["heads"];
    spec.kv_heads = shape["kv_heads"];
    spec.moe.experts = shape["experts"];
    spec.tied_head = shape["tied"];
    for (const auto& [file, types] : shape["types"].items()) {
      std::istringstream expected(types.get<std::string>());
      for (std::size_t i = 0; i < shape["names"].size(); ++i) {
        const std::string tensor = shape["names"][i];
        const std::int64_t columns = shape["columns"][i];
        std::string type;
        expected >> type;
        INFO(name << ", " << file << ", " << tensor);
        CHECK(info_of(exports::gguf_tensor_type(files.at(file), spec, tensor, columns == 0 ? 256 : columns, columns == 0 ? 1 : 2))
                  .name == type);
      }
    }
  }
}

TEST_CASE("with importance weights the first MLPs of Q4_0 and Q5_0 have a minimum too", "[export][quantize]") {
  model::ModelSpec spec;  // llama.cpp src/llama-quant.cpp, has_imatrix: i_layer < n_layer / 8
  spec.family = "llama";
  spec.layers.resize(30);
  const auto type = [&](GgufFileType file, const char* name, bool importance) {
    return exports::gguf_tensor_type(file, spec, name, 1536, 2, importance);
  };
  CHECK(type(GgufFileType::q4_0, "blk.2.ffn_down.weight", true) == GgmlType::q4_1);
  CHECK(type(GgufFileType::q4_0, "blk.3.ffn_down.weight", true) == GgmlType::q4_0);
  CHECK(type(GgufFileType::q4_0, "blk.2.ffn_down.weight", false) == GgmlType::q4_0);
  CHECK(type(GgufFileType::q4_0, "blk.2.ffn_up.weight", true) == GgmlType::q4_0);
  CHECK(type(GgufFileType::q5_0, "blk.0.ffn_down.weight", true) == GgmlType::q5_1);
  CHECK(type(GgufFileType::q4_1, "blk.0.ffn_down.weight", true) == GgmlType::q4_1);
}

TEST_CASE("codes, scales and packing are those of compressed-tensors", "[export][quantize]") {
  const SafetensorsFile file(kGolden / "compressed.safetensors");
  const at::Tensor weight = stored(file, "weight");
  for (const std::string name : {"w4a16_g32", "w4a16_g64", "w8a16_g128", "w8a8", "fp8"}) {
    INFO(name);
    const model::CompressedScheme scheme = scheme_named(name);
    const exports::Grid grid = exports::grid_of(weight, scheme);
    const model::CompressedWeight ours = exports::compressed(grid, exports::codes_on(grid, weight, scheme), scheme);
    const bool packed = scheme.format == model::CompressedFormat::packed;
    CHECK(at::equal(grid.scale, stored(file, name + ".weight_scale")));
    CHECK(at::equal(ours.scale.to(at::kFloat), grid.scale));
    const at::Tensor codes = stored(file, name + (packed ? ".weight_packed" : ".weight"));
    REQUIRE(ours.codes.sizes() == codes.sizes());
    CHECK(std::memcmp(ours.codes.const_data_ptr(), codes.const_data_ptr(), codes.nbytes()) == 0);
    CHECK(at::equal(model::decompressed(ours, scheme, 128), stored(file, name + ".decompressed")));
    CHECK(at::equal(exports::nearest_values(weight, scheme), stored(file, name + ".decompressed")));
  }
}

TEST_CASE("what is read back can be had without codes", "[export][quantize]") {
  at::manual_seed(5);
  at::Tensor weight = at::randn({200, 512}, at::kFloat);
  weight.narrow(0, 0, 3).zero_();
  weight.narrow(0, 3, 3).abs_();
  for (const bool symmetric : {false, true})
    for (const std::int64_t group : {0, 32, 128}) {
      const model::CompressedScheme scheme = {model::CompressedFormat::packed, 4, group, symmetric};
      const exports::Grid grid = exports::grid_of(weight, scheme);
      const model::CompressedWeight codes = exports::compressed(grid, exports::codes_on(grid, weight, scheme), scheme);
      CHECK(at::equal(exports::nearest_values(weight, scheme), model::decompressed(codes, scheme, 512)));
    }
  weight[150][7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message_of<DataError>([&] { exports::nearest_values(weight, {.group = 32}); }) == "a weight is not finite");
}

TEST_CASE("zero points are read as compressed-tensors packs them", "[export][quantize]") {
  const SafetensorsFile file(kGolden / "compressed.safetensors");
  const model::CompressedScheme scheme = scheme_named("w4a16_asym_g64");
  const model::CompressedWeight theirs = {stored(file, "w4a16_asym_g64.weight_packed"),
                                          stored(file, "w4a16_asym_g64.weight_scale"),
                                          stored(file, "w4a16_asym_g64.weight_zero_point")};
  CHECK(at::equal(model::decompressed(theirs, scheme, 128), stored(file, "w4a16_asym_g64.decompressed")));

  const at::Tensor weight = stored(file, "weight");
  const exports::Grid grid = exports::grid_of(weight, scheme);
  const model::CompressedWeight ours = exports::compressed(grid, exports::codes_on(grid, weight, scheme), scheme);
  CHECK(ours.zero_point.sizes() == theirs.zero_point.sizes());
  // Nothing is clipped when zero is on the grid: half a step, and half a step more where the zero point was rounded.
  const at::Tensor error = (model::decompressed(ours, scheme, 128) - weight).abs().view({24, 2, 64}).amax(2);
  CHECK(error.le(grid.scale * (1 + 15 * 0x1p-8)).all().item<bool>());
}

TEST_CASE("AWQ's words hold eight rows, the even ones first", "[export][quantize]") {
  at::manual_seed(10);
  const at::Tensor codes = at::randint(-8, 8, {24, 37}).to(at::kChar);
  const at::Tensor words = model::pack_awq(codes);
  REQUIRE(words.sizes() == at::IntArrayRef({3, 37}));
  bool same = true;
  for (std::int64_t word = 0; word < 3; ++word)
    for (std::int64_t column = 0; column < 37; ++column) {
      const auto bits = static_cast<std::uint32_t>(words[word][column].item<int>());
      int nibble = 0;
      for (const int row : {0, 2, 4, 6, 1, 3, 5, 7})
        same = same && static_cast<int>(bits >> 4 * nibble++ & 15) == codes[8 * word + row][column].item<int>() + 8;
    }
  CHECK(same);
  CHECK(at::equal(model::unpack_awq(words), codes));
  CHECK(at::equal(model::unpack_awq(words.t().contiguous().t()), codes));  // as a file has them
}

TEST_CASE("fp8 is read as LibTorch reads it, NaN too", "[export][quantize]") {
  const at::Tensor codes = at::arange(256, at::kInt).to(at::kByte).view(at::kFloat8_e4m3fn);
  const at::Tensor ours = model::f32_from_fp8(codes), theirs = codes.to(at::kFloat);
  CHECK(at::allclose(ours, theirs, 0, 0, /*equal_nan=*/true));
  CHECK(ours.isnan().sum().item<int>() == 2);
}

TEST_CASE("packed codes come back, also where they do not fill their words", "[export][quantize]") {
  at::manual_seed(9);
  for (const int bits : {4, 8})
    for (const std::int64_t columns : {1, 7, 8, 33}) {
      const at::Tensor codes = at::randint(-(1 << (bits - 1)), 1 << (bits - 1), {5, columns}).to(at::kChar);
      const at::Tensor words = model::pack_codes(codes, bits);
      CHECK(words.size(1) == (columns * bits + 31) / 32);
      CHECK(at::equal(model::unpack_codes(words, bits, columns), codes));
    }
}
