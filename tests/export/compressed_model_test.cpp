// compressed-tensors directories: what is in them, how they read back, what is refused.
#include <cstring>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "export/quantize/rounding.h"
#include "export/verify.h"
#include "model/decoder.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/plain_inputs.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_base.h"

using namespace graft;
using namespace graft::testing;

namespace {

constexpr const char* kPacked = "model.layers.0.mlp.up_proj.weight_packed";

exports::Artifact write_some(const std::string& format, const fs::path& directory) {
  return write(format, GoldenCase("llama").request(), directory);
}

std::string refused(const fs::path& model) {
  return message_of<graft::Error>([&] { model::open_weights(model); });
}

}  // namespace

TEST_CASE("every compressed-tensors format is written, read and verified", "[export][compressed]") {
  struct Kind {
    const char* name;
    const char* stored_as;
    // Over the largest weight of a tensor. int8: the largest is 127.5 steps and clipped to 127, a bf16 scale may be 2^-8 too
    // small: 1 - 127 / 127.5 (1 - 2^-8). fp8: half of e4m3's widest spacing, 16 / 448.
    double largest_error;
  };
  const std::string family = GENERATE("llama", "qwen2", "qwen3");
  const Kind kind = GENERATE(Kind{"ct-w8a8", "INT8 by row", 0.0079}, Kind{"ct-fp8", "FP8 by row", 0.04});
  INFO(family << " " << kind.name);
  const GoldenCase golden_case(family);
  const ScratchDirectory directory;
  const exports::Artifact artifact = write(kind.name, golden_case.request(), directory.path());
  CHECK(artifact.max_error > 0);
  CHECK(artifact.max_error < kind.largest_error);
  const auto reopened = model::open_weights(artifact.path);
  for (const model::WeightInfo& weight : reopened->weights()) {
    INFO(weight.name);
    const bool linear = weight.name.ends_with("_proj.weight");
    CHECK(weight.stored_as == (linear ? kind.stored_as : "BF16"));
  }
  CHECK(reopened->identity() != golden_case.base->identity());
}

TEST_CASE("groups of a row have scales, and zero points where asked for", "[export][compressed]") {
  struct Kind {
    const char* name;
    const char* stored_as;
    double largest_error;
  };
  // Rows of 32 and 64: the tiny Mistral's MLP has 48, which no group divides.
  const Kind kind = GENERATE(Kind{"ct-w8a16-g32", "INT8 by 32", 0.0079}, Kind{"ct-w4a16-g32", "INT4 by 32", 0.1},
                             Kind{"ct-w4a16-asym-g32", "INT4 with zero points by 32", 0.15});
  INFO(kind.name);
  const ScratchDirectory directory;
  write_tiny_base(directory / "base");
  const auto base = model::open_weights(directory / "base");
  const auto adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 64, 32}}, false);
  adapter->parameters.fill_(0.01);
  const exports::ExportRequest request = {*base, *adapter, at::kFloat, "Tiny", ""};
  const auto artifact = write(kind.name, request, directory.path());
  CHECK(artifact.max_error > 0);
  CHECK(artifact.max_error < kind.largest_error);
  const auto reopened = model::open_weights(artifact.path);
  for (const model::WeightInfo& weight : reopened->weights())
    if (weight.name.ends_with("_proj.weight")) CHECK(weight.stored_as == kind.stored_as);

  const SafetensorsFile file(artifact.path / "model.safetensors");
  const std::string module = "model.layers.0.mlp.down_proj.weight";
  CHECK(!file.tensors().contains(module));
  CHECK(file.tensors().at(module + "_packed").dtype == DType::i32);
  CHECK(file.tensors().at(module + "_shape").dtype == DType::i64);
  CHECK(file.tensors().at(module + "_scale").shape == std::vector<std::int64_t>{32, 2});
  CHECK(file.tensors().contains(module + "_zero_point") == (std::string(kind.name).find("asym") != std::string::npos));
  for (const auto& [name, tensor] : file.tensors()) CHECK(tensor.begin % size_of(tensor.dtype) == 0);

  // One code changed: found, with the tensor's name.
  const Noted noted(kind.name, request, directory.path());
  const SafeTensor codes = file.tensors().at(module + "_packed");
  std::string bytes = read_file(noted.path / "model.safetensors");
  CHECK(bytes == read_file(artifact.path / "model.safetensors"));
  CHECK(noted.verify(request) == artifact.max_error);
  bytes[codes.begin] = static_cast<char>(bytes[codes.begin] ^ 1);
  write_file(noted.path / "model.safetensors", bytes);
  CHECK(message_of<FormatError>([&] {
          noted.verify(request);
        }).find("tensor " + module + " (" + kind.stored_as + ") does not read back as it was written") != std::string::npos);
}

TEST_CASE("config.json says how the linears are stored, as compressed-tensors wants it", "[export][compressed]") {
  const ScratchDirectory directory;
  const Json base = read_json(golden("llama") / "base/config.json");
  Json config = read_json(write_some("ct-w8a8", directory.path()).path / "config.json");
  const Json quantization = config["quantization_config"];
  config.erase("quantization_config");
  CHECK(config == base);
  CHECK(quantization["quant_method"] == "compressed-tensors");
  CHECK(quantization["format"] == "int-quantized");
  CHECK(quantization["quantization_status"] == "compressed");
  CHECK(quantization["ignore"] == Json::array({"lm_head"}));
  const Json& group = quantization["config_groups"]["group_0"];
  CHECK(group["targets"] == Json::array({"Linear"}));
  CHECK(group["weights"]["num_bits"] == 8);
  CHECK(group["weights"]["strategy"] == "channel");
  CHECK(group["weights"]["group_size"].is_null());
  CHECK(group["weights"]["dynamic"] == false);
  CHECK(group["input_activations"]["strategy"] == "token");
  CHECK(group["input_activations"]["dynamic"] == true);
  CHECK(group["input_activations"]["observer"].is_null());
  CHECK(group["output_activations"].is_null());
}

TEST_CASE("what loses most when it is rounded keeps 8 bits", "[export][compressed]") {
  model::ModelSpec spec;
  spec.layers.resize(30);
  const model::CompressedScheme four = {model::CompressedFormat::packed, 4, 32, false},
                                eight = {model::CompressedFormat::packed, 8, 0, true};
  const auto of = exports::LinearSchemes(four, eight).of(spec);
  const auto bits = [&](const std::string& module) { return of("model.layers." + module + ".weight").bits; };
  for (const char* module : {"0.mlp.down_proj", "1.mlp.up_proj", "28.mlp.gate_proj", "29.mlp.gate_up_proj", "14.self_attn.q_proj",
                             "14.self_attn.k_proj", "0.self_attn.v_proj", "29.self_attn.qkv_proj"}) {
    INFO(module);
    CHECK(bits(module) == 8);
  }
  for (const char* module :
       {"2.mlp.down_proj", "10.mlp.up_proj", "27.mlp.gate_proj", "0.self_attn.o_proj", "14.self_attn.o_proj"}) {
    INFO(module);
    CHECK(bits(module) == 4);
  }
  CHECK(exports::LinearSchemes(four).of(spec)("model.layers.0.mlp.down_proj.weight").bits == 4);

  const ScratchDirectory directory;
  write_tiny_base(directory / "base");
  const auto base = model::open_weights(directory / "base");
  const auto adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 64, 32}}, false);
  adapter->parameters.fill_(0.01);
  const auto artifact = write("ct-w4w8a16-asym-g32", {*base, *adapter, at::kFloat, "Tiny", ""}, directory.path());
  const auto reopened = model::open_weights(artifact.path);
  for (const model::WeightInfo& weight : reopened->weights()) {
    INFO(weight.name);
    if (weight.name.ends_with("_proj.weight"))  // the first and the last of two layers
      CHECK(weight.stored_as == (weight.name.ends_with("o_proj.weight") ? "INT4 with zero points by 32" : "INT8 by row"));
  }
  const Json groups = read_json(artifact.path / "config.json")["quantization_config"]["config_groups"];
  CHECK(groups["group_0"]["targets"] == Json::array({"Linear"}));
  CHECK(groups["group_0"]["weights"]["num_bits"] == 4);
  CHECK(groups["group_1"]["targets"] == Json::array({"re:.*\\.q_proj$", "re:.*\\.k_proj$", "re:.*\\.v_proj$", "re:.*\\.qkv_proj$",
                                                     "re:.*\\.layers\\.0\\.mlp\\..*", "re:.*\\.layers\\.1\\.mlp\\..*"}));
  CHECK(groups["group_1"]["weights"]["num_bits"] == 8);
  CHECK(groups["group_1"]["weights"]["strategy"] == "channel");
  CHECK(groups["group_1"]["format"] == "pack-quantized");

  write_tiny_base(directory / "experts", {.experts = 4});
  CHECK(message_of<ConfigError>([&] {
          exports::check_formats({"ct-w4w8a16-asym-g32"}, model::open_weights(directory / "experts")->spec(), {});
        }).find("experts in more than one width; choose ct-w4a16-asym-g32-awq-gptq") != std::string::npos);
}

TEST_CASE("groups that do not divide a row are refused before any work", "[export][compressed]") {
  const GoldenCase golden_case("llama");  // rows of 32 and 48
  const auto refusal = [&](const std::string& format) {
    return message_of<ConfigError>([&] { exports::check_formats({format}, golden_case.base->spec(), {}); });
  };
  CHECK(refusal("ct-w4a16-g32") ==
        "export format ct-w4a16-g32: groups of 32 do not divide the rows of model.layers.0.mlp.down_proj.weight, which have 48 "
        "columns; choose a format with one scale per row, ct-w8a8 or ct-fp8");
  model::ModelSpec spec = golden_case.base->spec();
  spec.hidden = 576;
  spec.ffn = 1536;
  spec.heads = 9;
  spec.kv_heads = 3;
  spec.head_dim = 64;
  CHECK(message_of<ConfigError>([&] { exports::check_formats({"ct-w4a16-g128"}, spec, {}); }) ==
        "export format ct-w4a16-g128: groups of 128 do not divide the rows of model.layers.0.self_attn.q_proj.weight, which have "
        "576 columns; choose groups of 64");
  CHECK_NOTHROW(exports::check_formats({"ct-w4a16-g64", "ct-w4a16-g32", "ct-w8a8", "ct-fp8"}, spec, {}));
  spec.hidden = 577;
  CHECK(message_of<ConfigError>([&] { exports::check_formats({"ct-w8a8"}, spec, {}); }).find("would have") != std::string::npos);
}

TEST_CASE("a base that is quantized so is exported as what it is, dequantized", "[export][compressed]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  const auto artifact = write("ct-w8a8", golden_case.request(), directory.path());
  const auto base = model::open_weights(artifact.path);
  auto adapter = lora::load_peft(golden("llama") / "adapter");
  const auto again = write("hf", {*base, *adapter, at::kFloat, "Tiny", ""}, directory.path());
  CHECK(!read_json(again.path / "config.json").contains("quantization_config"));
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const at::Tensor expected = lora::merged_rows(*adapter, "model.layers.1.mlp.up_proj", 0, base->load(name, at::kFloat));
  CHECK(at::equal(model::open_weights(again.path)->load(name, at::kFloat), expected.to(at::kBFloat16).to(at::kFloat)));
}

TEST_CASE("the inputs of linears are rounded where the server rounds them", "[export][compressed]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  const model::Packed batch = {at::arange(3, 20, at::kLong), at::arange(17, at::kInt), {0, 17}};
  struct Kind {
    const char* format;
    kernels::RowRounding inputs;
    double least, most;  // of |rounded - plain| / |plain|: half a step of 1 / 127 or e4m3's 2^-4 of each input, some layers on
  };
  for (const auto& [format, inputs, least, most] :
       {Kind{"ct-w8a8", kernels::RowRounding::int8, 1e-4, 0.03}, {"ct-fp8", kernels::RowRounding::fp8, 1e-3, 0.2}}) {
    INFO(format);
    const auto served = model::open_weights(write(format, golden_case.request(), directory.path()).path);
    CHECK(served->inputs() == inputs);
    const auto logits = [&](const model::WeightSource& source) {
      return model::Decoder::load(source, at::kFloat, at::kFloat)->logits(batch);
    };
    const double moved = relative_error(logits(*served), logits(PlainInputs(*served)));
    CHECK(moved > least);
    CHECK(moved < most);
  }
}

TEST_CASE("groups of modules are read as each is stored, and refused where they contradict each other", "[export][compressed]") {
  const ScratchDirectory directory;
  write_tiny_base(directory / "base");
  const auto base = model::open_weights(directory / "base");
  const auto adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 64, 32}}, false);
  adapter->parameters.fill_(0.01);
  const exports::ExportRequest request = {*base, *adapter, at::kFloat, "Tiny", ""};
  const fs::path four = write("ct-w4a16-g32", request, directory.path()).path,
                 eight = write("ct-w8a16-g32", request, directory.path()).path;

  // down_proj of the second, the rest of the first.
  const fs::path mixed = directory / "mixed";
  fs::copy(four, mixed);
  SafetensorsWriter writer(mixed / "model.safetensors");
  const SafetensorsFile narrow(four / "model.safetensors"), wide(eight / "model.safetensors");
  std::vector<std::pair<const SafetensorsFile*, const SafeTensor*>> sources;
  for (const auto& [name, tensor] : narrow.tensors()) {
    const SafetensorsFile& file = name.find("down_proj") == std::string::npos ? narrow : wide;
    const SafeTensor& source = file.tensors().at(name);
    writer.tensor(name, source.dtype, source.shape);
    sources.emplace_back(&file, &source);
  }
  auto source = sources.begin();
  for (const auto& [name, tensor] : narrow.tensors()) {
    const auto bytes = source->first->data(*source->second);
    writer.data(name, bytes.data(), bytes.size());
    ++source;
  }
  writer.commit();
  const Json config = read_json(four / "config.json"),
             other = read_json(eight / "config.json")["quantization_config"]["config_groups"]["group_0"];
  const auto with = [&](const std::function<void(Json & groups)>& change) {
    Json changed = config;
    Json& groups = changed["quantization_config"]["config_groups"];
    groups["group_1"] = other;
    groups["group_1"]["targets"] = {"re:.*\\.down_proj$"};
    change(groups);
    write_file(mixed / "config.json", changed.dump(2));
    return refused(mixed);
  };
  CHECK(with([](Json&) {}) == "nothing was thrown");
  const auto read = model::open_weights(mixed), as_four = model::open_weights(four), as_eight = model::open_weights(eight);
  for (const model::WeightInfo& weight : read->weights()) {
    INFO(weight.name);
    if (!weight.name.ends_with("_proj.weight")) continue;
    const bool down = weight.name.ends_with("down_proj.weight");
    CHECK(weight.stored_as == (down ? "INT8 by 32" : "INT4 by 32"));
    CHECK(at::equal(read->load(weight.name, at::kFloat), (down ? as_eight : as_four)->load(weight.name, at::kFloat)));
    CHECK(at::equal(read->load_rows(weight.name, 8, 16, at::kFloat), read->load(weight.name, at::kFloat).narrow(0, 8, 8)));
  }
  const std::vector<std::string> names = {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"};
  CHECK(with([&](Json& groups) { groups["group_1"]["targets"] = names; }) == "nothing was thrown");

  const auto says = [&](const std::function<void(Json & groups)>& change, const std::string& message) {
    const std::string said = with(change);
    INFO(said);
    CHECK(said.find(message) != std::string::npos);
  };
  says([&](Json& groups) { groups["group_1"]["targets"] = {"Linear"}; }, "two groups of modules have the target Linear");
  says([&](Json& groups) { groups["group_0"]["targets"] = {"re:.*proj"}; },
       "two groups of modules name model.layers.0.mlp.down_proj");
  says([&](Json& groups) { groups["group_0"]["targets"] = {names[0]}; },
       "two groups of modules name model.layers.0.mlp.down_proj");
  says([&](Json& groups) { groups["group_0"]["targets"] = {"re:.*layers\\.0.*(q|k|v)_proj"}; },
       "group_0: target 're:.*layers\\.0.*(q|k|v)_proj' is a pattern of more than letters");
  says([&](Json& groups) { groups["group_1"]["targets"] = {"Conv2d"}; }, "group_1: target 'Conv2d'; graft reads Linear, names");
  says([&](Json& groups) { groups["group_1"].erase("targets"); }, "group_1: the targets of a group are not a list");
  says([&](Json& groups) { groups["group_1"] = 1; }, "group_1 is not an object");
  says([&](Json& groups) { groups["group_1"]["weights"]["num_bits"] = 3; }, "group_1: num_bits is 3");
  says([&](Json& groups) { groups["group_1"]["format"] = "nvfp4-pack-quantized"; }, "group_1: format 'nvfp4-pack-quantized'");
  says([&](Json& groups) { groups["group_1"]["targets"] = {"re:.*up_proj$"}; },
       "up_proj.weight_packed has shape [64, 4], config.json asks for [64, 8]");
  says([&](Json& groups) { groups["group_0"]["targets"] = {"re:.*up_proj$"}; }, "tensors of a LlamaForCausalLM are missing");
  says(
      [&](Json& groups) {
        groups["group_1"]["input_activations"] = {{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
      },
      "groups of modules differ in their input_activations");
  says(
      [&](Json& groups) {
        for (int i = 2; i < 17; ++i) groups[cat("group_", i)] = groups["group_1"];
      },
      "there are 17 groups of modules, and at most 16 are read");
}

TEST_CASE("a hostile compressed-tensors directory is refused with the tensor's name", "[export][compressed]") {
  const ScratchDirectory directory;
  write_tiny_base(directory / "base");
  const auto base = model::open_weights(directory / "base");
  const auto adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 64, 32}}, false);
  const fs::path written = write("ct-w4a16-g32", {*base, *adapter, at::kFloat, "Tiny", ""}, directory.path()).path;
  const Json config = read_json(written / "config.json");
  const auto with = [&](const char* key, const Json& value, bool of_weights = true) {
    Json changed = config;
    (of_weights ? changed["quantization_config"]["config_groups"]["group_0"]["weights"] : changed["quantization_config"])[key] =
        value;
    write_file(written / "config.json", changed.dump(2));
    return refused(written);
  };
  CHECK(with("quant_method", "quark", false).find("quantization_config: quant_method is 'quark'") != std::string::npos);
  CHECK(with("format", "nvfp4-pack-quantized", false).find("format 'nvfp4-pack-quantized'") != std::string::npos);
  CHECK(with("num_bits", 3).find("num_bits is 3") != std::string::npos);
  CHECK(with("strategy", "tensor").find("strategy 'tensor'") != std::string::npos);
  CHECK(with("group_size", 0).find("group_size is 0") != std::string::npos);
  CHECK(with("group_size", 24).find("which groups of 24 do not divide") != std::string::npos);
  CHECK(with("group_size", 16).find("weight_scale has shape [32, 1], config.json asks for [32, 2]") != std::string::npos);
  CHECK(with("num_bits", 8).find("weight_packed has shape [32, 4], config.json asks for [32, 8]") != std::string::npos);
  CHECK(with("symmetric", false).find("weight_zero_point is missing") != std::string::npos);
  CHECK(with("actorder", "group").find("the groups follow the activations' order") != std::string::npos);
  const auto with_inputs = [&](const Json& inputs) {
    Json changed = config;
    changed["quantization_config"]["config_groups"]["group_0"]["input_activations"] = inputs;
    write_file(written / "config.json", changed.dump(2));
    return refused(written);
  };
  CHECK(with_inputs("token").find("input_activations is not an object") != std::string::npos);
  CHECK(with_inputs({{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}, {"dynamic", false}})
            .find("input_activations are not 8 bits by token, dynamic and symmetric") != std::string::npos);
  CHECK(with_inputs({{"num_bits", 4}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}})
            .find("input_activations are not 8 bits by token, dynamic and symmetric") != std::string::npos);
  CHECK(with("config_groups", Json::object(), false).find("config_groups is missing") != std::string::npos);

  write_file(written / "config.json", config.dump(2));
  const SafeTensor shape = SafetensorsFile(written / "model.safetensors").tensors().at("model.layers.0.mlp.up_proj.weight_shape");
  std::string bytes = read_file(written / "model.safetensors");
  bytes[shape.begin] = 1;
  write_file(written / "model.safetensors", bytes);
  CHECK(refused(written).find("up_proj.weight: weight_shape says [1, 32], config.json asks for [64, 32]") != std::string::npos);
  CHECK(SafetensorsFile(written / "model.safetensors").tensors().contains(kPacked));
}
