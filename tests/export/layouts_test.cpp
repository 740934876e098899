// Layouts of quantized linears against vLLM's, compressed-tensors' and bitsandbytes' own (tests/golden/export/layouts/make.py).
#include <cstring>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "export/linear_formats.h"
#include "export/quantize/fp8.h"
#include "kernels/nf4/nf4_weight.h"
#include "model/linear_layout.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

namespace {

const SafetensorsFile& file() {
  static const SafetensorsFile opened(golden("layouts") / "layouts.safetensors");
  return opened;
}

at::Tensor stored(const std::string& name) {
  const SafeTensor& info = file().tensors().at(name);
  at::Tensor values = at::empty(info.shape, at::TensorOptions().dtype(model::scalar_type(info.dtype)));
  std::memcpy(values.mutable_data_ptr(), file().data(info).data(), values.nbytes());
  return values;
}

at::Tensor weight() { return stored("weight").to(at::kFloat); }

model::TensorSpec linear() {
  model::TensorSpec spec;
  spec.name = "m.weight";
  spec.shape = {16, 128};
  return spec;
}

exports::RoundLinear nearest(bool symmetric) {
  const model::CompressedScheme scheme{model::CompressedFormat::packed, 4, 32, symmetric};
  return [=](const model::TensorSpec&, const at::Tensor& values) { return exports::rounded_to_nearest(values, scheme); };
}
exports::LinearFormat gptq() { return exports::gptq_format(32, nearest(true)); }
exports::LinearFormat awq() { return exports::awq_format(32, nearest(false)); }

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.nbytes() == b.nbytes() &&
         std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(), a.nbytes()) == 0;
}

// What the layout of `config` makes of the goldens: `names` are those of its parts.
at::Tensor values_of(const Json& config, const std::map<std::string, std::string>& names) {
  const auto layout = model::read_layout({{"quantization_config", config}}, "config.json");
  std::vector<at::Tensor> tensors;
  for (const model::LayoutPart& part : layout->parts(linear())) {
    INFO(part.name);
    const auto named = names.find(part.name);
    REQUIRE((part.optional || named != names.end()));
    tensors.push_back(named == names.end() ? at::Tensor() : stored(named->second));
    if (tensors.back().defined() && part.shape != std::vector{model::kAnySize})
      tensors.back() = tensors.back().reshape(part.shape);
  }
  layout->check(linear(), tensors);
  return layout->values(linear(), tensors);
}

}  // namespace

TEST_CASE("int4 words are those of vLLM's packers", "[export][layouts]") {
  struct Kind {
    const char* name;
    exports::LinearFormat format;
  };
  const Kind kinds[] = {{"gptq.", gptq()}, {"awq.", awq()}};
  for (const Kind& kind : kinds) {
    INFO(kind.name);
    const auto layout = kind.format.layout(linear());
    const exports::EncodedLinear encoded = kind.format.encode(linear(), weight());
    REQUIRE(encoded.parts.size() == layout.size());
    for (std::size_t i = 0; i < layout.size(); ++i) {
      INFO(layout[i].name);
      const std::string name = kind.name + layout[i].name.substr(2);
      CHECK(file().tensors().at(name).shape == layout[i].shape);
      CHECK(file().tensors().at(name).dtype == layout[i].type);
      CHECK(same_bytes(encoded.parts[i], stored(name)));
    }
    CHECK(at::equal(encoded.values(), stored(cat(kind.name, "values"))));
  }
}

TEST_CASE("groups too small for scales in f16 move to the smallest that is exact", "[export][layouts]") {
  at::Tensor tiny = weight();
  tiny.select(0, 1).mul_(1e-6);
  for (const bool symmetric : {true, false}) {
    const auto format = symmetric ? gptq() : awq();
    const exports::EncodedLinear encoded = format.encode(linear(), tiny);
    const at::Tensor scales = encoded.parts.back().to(at::kFloat);
    CHECK(scales.min().item<double>() == 0x1p-17);
    // Half a step, and what lies beyond the last code: less than a step of 2^-17 here.
    CHECK((encoded.values() - tiny).select(0, 1).abs().max().item<double>() <= 0x1p-18);
    CHECK(at::equal(encoded.values().select(0, 2), format.encode(linear(), weight()).values().select(0, 2)));
  }
  tiny.select(0, 1).mul_(1e15);
  CHECK_THROWS_AS(gptq().encode(linear(), tiny), DataError);
}

TEST_CASE("fp8 has the codes and scales of its tiles", "[export][layouts]") {
  struct Kind {
    const char* name;
    model::Fp8Tiles tiles;
  };
  for (const auto& [name, tiles] : {Kind{"fp8", {0, 0, false}},
                                    {"fp8_rows", {1, 0, false}},
                                    {"fp8_ragged", {10, 40, false}},
                                    {"fp8_block", {8, 32, false}}}) {
    INFO(name);
    const exports::Fp8Weight rounded = exports::round_to_fp8(weight(), tiles);
    CHECK(at::equal(rounded.scale, stored(cat(name, ".scale"))));
    CHECK(same_bytes(rounded.codes, stored(cat(name, ".codes"))));
    CHECK(at::equal(rounded.values(tiles), stored(cat(name, ".values"))));
  }
  at::Tensor broken = weight();
  broken[1][2] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message_of<DataError>([&] { exports::round_to_fp8(broken, {0, 0, false}); }) == "a weight is not finite");
  CHECK(message_of<DataError>([&] { kernels::Nf4Weight{broken}; }) == "a weight is not finite");
}

TEST_CASE("inputs on a fixed scale are those of compressed-tensors' quantizer", "[export][layouts]") {
  const at::Tensor inputs = stored("inputs"), rounded = stored("inputs.rounded");
  const auto scale = stored("inputs.scale").item<float>();
  CHECK(at::equal(kernels::rounded_rows(inputs, kernels::RowRounding::fp8, scale), rounded));
  CHECK(rounded[4][7].item<float>() == 448 * scale);  // saturated
  CHECK(!at::equal(kernels::rounded_rows(inputs, kernels::RowRounding::fp8), rounded));
}

TEST_CASE("NF4 has the bytes of bitsandbytes", "[export][layouts]") {
  for (const std::string name : {"nf4", "nf4_large"}) {
    INFO(name);
    const at::Tensor source = name == "nf4" ? weight() : stored("large").to(at::kFloat);
    const kernels::Nf4Weight rounded(source);
    CHECK(same_bytes(rounded.codes, stored(name + ".codes")));
    CHECK(same_bytes(rounded.scales, stored(name + ".absmax")));
    CHECK(same_bytes(kernels::Nf4Weight(rounded.values(at::kBFloat16)).codes, rounded.codes));  // a base that is such a file
    // The mean of the scales is summed in another order.
    CHECK(at::allclose(rounded.group_scales, stored(name + ".nested_absmax"), 1e-5, 0));
  }
  CHECK(kernels::Nf4Weight(stored("large").to(at::kFloat)).offset ==
        Approx(stored("nf4_large.offset").item<double>()).epsilon(1e-6));
  CHECK(same_bytes(kernels::nf4_levels(), stored("nf4.quant_map")));
  CHECK(at::allclose(kernels::nf4_scale_levels(), stored("nf4.nested_quant_map"), 1e-6, 1e-9));
  CHECK(at::allclose(kernels::Nf4Weight(weight()).values(at::kFloat), stored("nf4.values"), 1e-5, 1e-7));
}

TEST_CASE("rows of a matrix in NF4 are those of the whole, given its offset", "[export][layouts]") {
  at::manual_seed(1);
  const at::Tensor source = at::randn({256, 128});
  const kernels::Nf4Weight whole(source);
  CHECK(kernels::nf4_offset(at::cat({kernels::nf4_block_scales(source.narrow(0, 0, 128)),
                                     kernels::nf4_block_scales(source.narrow(0, 128, 128))})) == whole.offset);
  const kernels::Nf4Weight top(source.narrow(0, 0, 128), whole.offset), bottom(source.narrow(0, 128, 128), whole.offset);
  CHECK(same_bytes(at::cat({top.codes, bottom.codes}), whole.codes));
  CHECK(same_bytes(at::cat({top.scales, bottom.scales}), whole.scales));
  CHECK(same_bytes(at::cat({top.group_scales, bottom.group_scales}), whole.group_scales));
}

TEST_CASE("layouts of others read back as their own tools read them", "[model][layouts]") {
  const auto named = [](const std::string& prefix, const std::map<std::string, std::string>& parts) {
    std::map<std::string, std::string> names;
    for (const auto& [part, name] : parts) names["m." + part] = name.find('.') == std::string::npos ? prefix + name : name;
    return names;
  };
  const auto gptq = named("gptq.", {{"qweight", "qweight"}, {"qzeros", "qzeros"}, {"scales", "scales"}});
  Json config = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"desc_act", false}, {"sym", true}};
  CHECK(at::equal(values_of(config, gptq), stored("gptq.values")));
  auto shuffled = gptq;
  shuffled["m.g_idx"] = "gptq_v2.g_idx";
  shuffled["m.qzeros"] = "gptq_v2.qzeros";
  config["checkpoint_format"] = "gptq_v2";
  config["desc_act"] = true;
  CHECK(at::equal(values_of(config, shuffled), stored("gptq_v2.values")));

  const auto awq = named("awq.", {{"qweight", "qweight"}, {"qzeros", "qzeros"}, {"scales", "scales"}});
  CHECK(at::equal(values_of({{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}, {"zero_point", true}}, awq),
                  stored("awq.values")));
  CHECK(at::equal(
      values_of({{"quant_method", "awq"}, {"w_bit", 4}, {"q_group_size", 32}, {"zero_point", true}, {"version", "GEMM"}}, awq),
      stored("awq.values")));

  const auto fp8 = [&](const std::string& name, const char* suffix) {
    return named("", {{"weight", name + ".codes"}, {cat("weight", suffix), name + ".scale"}});
  };
  CHECK(at::equal(values_of({{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}}, fp8("fp8", "_scale")),
                  stored("fp8.values")));
  CHECK(at::equal(values_of({{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {10, 40}}},
                            fp8("fp8_ragged", "_scale_inv")),
                  stored("fp8_ragged.values")));
  CHECK(
      at::equal(values_of({{"quant_method", "modelopt"}, {"quant_algo", "FP8_PER_CHANNEL_PER_TOKEN"}}, fp8("fp8_rows", "_scale")),
                stored("fp8_rows.values")));
  const Json weights = {
      {"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", "block"}, {"block_structure", {8, 32}}};
  const Json compressed = {{"quant_method", "compressed-tensors"},
                           {"format", "float-quantized"},
                           {"config_groups", {{"group_0", {{"targets", Json::array({"Linear"})}, {"weights", weights}}}}}};
  CHECK(at::equal(values_of(compressed, fp8("fp8_block", "_scale")), stored("fp8_block.values")));

  const Json nf4 = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
  auto parts = named("", {{"weight", "nf4.codes"},
                          {"weight.quant_map", "nf4.quant_map"},
                          {"weight.absmax", "nf4_plain.absmax"},
                          {"weight.quant_state.bitsandbytes__nf4", "nf4_plain.quant_state"}});
  CHECK(at::equal(values_of(nf4, parts), stored("nf4_plain.values")));
  Json nested = nf4;
  nested["bnb_4bit_use_double_quant"] = true;
  parts["m.weight.absmax"] = "nf4.absmax";
  parts["m.weight.quant_state.bitsandbytes__nf4"] = "nf4.quant_state.bitsandbytes__nf4";
  parts["m.weight.nested_absmax"] = "nf4.nested_absmax";
  parts["m.weight.nested_quant_map"] = "nf4.nested_quant_map";
  CHECK(at::equal(values_of(nested, parts), stored("nf4.values")));
}
