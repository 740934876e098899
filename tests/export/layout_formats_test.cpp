// Directories in the layouts of several servers: what is in them, how they read back, what is refused.
#include <ATen/ATen.h>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "export/verify.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_base.h"

using namespace graft;
using namespace graft::testing;

namespace {

// A base whose linears have whole blocks of 128, with a random adapter.
struct Scene {
  ScratchDirectory directory;
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<lora::AdapterSet> adapter;

  Scene() {
    write_tiny_base(directory / "base", {.ffn = 128, .head_dim = 64, .hidden = 128});
    base = model::open_weights(directory / "base");
    adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 128, 128}}, false);
    adapter->parameters.fill_(0.01);
  }
  exports::ExportRequest request() const { return {*base, *adapter, at::kFloat, "Tiny", ""}; }
  exports::Artifact write(const std::string& format) const { return testing::write(format, request(), directory.path()); }
};

struct Kind {
  const char *name, *stored_as;
  double largest_error;  // over the largest weight of a tensor
  kernels::RowRounding inputs = kernels::RowRounding::none;
};
// int4: half of a step of 1 / 7.5, and the 8 of -8 .. 7 that is clipped: up to a step, bf16 scales on top. With zero points half
// of a step of 2 / 15 and the rounding of zero: a step. fp8: half of e4m3's widest spacing, 16 / 448. NF4: half of its widest
// gap, 0.152, and scales in 8 bits. fp8 on the scale of what a server joins: half of e4m3's spacing at the largest weight, 2^-4
// at most.
constexpr Kind kKinds[] = {{"gptq-g32", "GPTQ INT4 by 32", 0.14},
                           {"awq-g32", "AWQ INT4 by 32", 0.15},
                           {"fp8", "FP8", 0.0626, kernels::RowRounding::fp8},
                           {"fp8-block", "FP8 by 128 x 128", 0.0358, kernels::RowRounding::fp8_by_128},
                           {"ct-fp8-block", "FP8 by 128 x 128", 0.0358, kernels::RowRounding::fp8_by_128},
                           {"modelopt-fp8", "FP8 by row", 0.0358, kernels::RowRounding::fp8},
                           {"bnb-nf4", "NF4", 0.17}};

std::string bytes_of(const SafetensorsFile& file, const std::string& tensor) {
  const auto bytes = file.data(file.tensors().at(tensor));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("what servers join in fp8 has one scale, so that they round nothing again", "[export][layouts]") {
  const Scene scene;
  const auto artifact = scene.write("fp8");
  const exports::MergedModel source(*scene.base, scene.adapter.get(), at::kFloat);
  const auto read = model::open_weights(artifact.path);
  const SafetensorsFile file(artifact.path / "model.safetensors");
  for (const std::vector<std::string>& joined :
       std::vector<std::vector<std::string>>{{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                             {"self_attn.o_proj"},
                                             {"mlp.gate_proj", "mlp.up_proj"},
                                             {"mlp.down_proj"}}) {
    std::vector<at::Tensor> weights;
    for (const std::string& name : joined) weights.push_back(source.load("model.layers.0." + name + ".weight").flatten());
    const float scale = at::cat(weights).abs().max().item<float>() / 448;
    for (std::size_t i = 0; i < joined.size(); ++i) {
      INFO(joined[i]);
      const std::string name = "model.layers.0." + joined[i] + ".weight";
      CHECK(bytes_of(file, name + "_scale") == std::string(reinterpret_cast<const char*>(&scale), sizeof scale));
      const at::Tensor nearest = (weights[i] / scale).clamp(-448, 448).to(at::kFloat8_e4m3fn).to(at::kFloat) * scale;
      CHECK(at::equal(read->load(name, at::kFloat).flatten(), nearest));
    }
  }
}

TEST_CASE("every layout is written, read and verified", "[export][layouts]") {
  const Scene scene;
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    const auto artifact = scene.write(kind.name);
    CHECK(artifact.max_error > 0);
    CHECK(artifact.max_error < kind.largest_error);
    const auto reopened = model::open_weights(artifact.path);
    CHECK(reopened->inputs() == kind.inputs);
    for (const model::WeightInfo& weight : reopened->weights()) {
      INFO(weight.name);
      CHECK(weight.stored_as == (weight.name.ends_with("_proj.weight") ? kind.stored_as : "BF16"));
    }
    const SafetensorsFile file(artifact.path / "model.safetensors");
    for (const auto& [name, tensor] : file.tensors()) {
      INFO(name);
      CHECK(tensor.begin % size_of(tensor.dtype) == 0);
    }
    // What was verified is the merged model, or the base where the adapter lies beside it.
    const std::string name = "model.layers.0.mlp.down_proj.weight";
    const at::Tensor source = scene.base->load(name, at::kFloat), read = reopened->load(name, at::kFloat);
    const at::Tensor merged = lora::merged_rows(*scene.adapter, "model.layers.0.mlp.down_proj", 0, source);
    const bool beside = std::string(kind.name) == "bnb-nf4";
    CHECK(((read - merged).abs().mean() < (read - source).abs().mean()).item<bool>() == !beside);
    CHECK(fs::exists(artifact.path / "adapter/adapter_model.safetensors") == beside);
    if (beside) CHECK(read_json(artifact.path / "adapter/adapter_config.json")["base_model_name_or_path"] == "..");

    // One byte changed: found, with the tensor's name.
    const std::string module = "model.layers.1.mlp.up_proj.";
    const auto part = file.tensors().contains(module + "qweight") ? module + "qweight" : module + "weight";
    const Noted noted(kind.name, scene.request(), scene.directory.path());
    CHECK(noted.verify(scene.request()) == artifact.max_error);
    std::string bytes = read_file(noted.path / "model.safetensors");
    bytes[file.tensors().at(part).begin] = static_cast<char>(bytes[file.tensors().at(part).begin] ^ 1);
    write_file(noted.path / "model.safetensors", bytes);
    CHECK(contains(message_of<FormatError>([&] { noted.verify(scene.request()); }),
                   cat("tensor ", module, "weight (", kind.stored_as, ") does not read back as it was written")));
  }
}

TEST_CASE("config.json says how the linears are stored, as each server wants it", "[export][layouts]") {
  const Scene scene;
  const auto config = [&](const std::string& format) {
    Json written = read_json(scene.write(format).path / "config.json");
    const Json quantization = written["quantization_config"];
    return quantization;
  };
  const Json gptq = config("gptq-g32");
  CHECK(gptq["quant_method"] == "gptq");
  CHECK(gptq["bits"] == 4);
  CHECK(gptq["group_size"] == 32);
  CHECK(gptq["desc_act"] == false);
  CHECK(gptq["sym"] == true);
  const Json awq = config("awq-g32");
  CHECK(awq["quant_method"] == "awq");
  CHECK(awq["zero_point"] == true);
  CHECK(awq["version"] == "gemm");
  const Json fp8 = config("fp8");
  CHECK(fp8["quant_method"] == "fp8");
  CHECK(fp8["activation_scheme"] == "dynamic");
  CHECK(fp8["ignored_layers"] == Json::array({"lm_head"}));
  CHECK(!fp8.contains("weight_block_size"));
  CHECK(config("fp8-block")["weight_block_size"] == Json({128, 128}));
  const Json block = config("ct-fp8-block")["config_groups"]["group_0"];
  CHECK(block["weights"]["strategy"] == "block");
  CHECK(block["weights"]["block_structure"] == Json({128, 128}));
  CHECK(block["weights"]["group_size"].is_null());
  CHECK(block["input_activations"]["strategy"] == "group");
  CHECK(block["input_activations"]["group_size"] == 128);
  CHECK(block["input_activations"]["dynamic"] == true);
  const Json modelopt = config("modelopt-fp8");
  CHECK(modelopt["quant_method"] == "modelopt");
  CHECK(modelopt["quant_algo"] == "FP8_PER_CHANNEL_PER_TOKEN");
  CHECK(modelopt["ignore"] == Json::array({"lm_head"}));
  const Json separate = read_json(scene.directory / "modelopt-fp8/hf_quant_config.json")["quantization"];
  CHECK(separate["quant_algo"] == "FP8_PER_CHANNEL_PER_TOKEN");
  CHECK(separate["exclude_modules"] == Json::array({"lm_head"}));
  const Json nf4 = config("bnb-nf4");
  CHECK(nf4["quant_method"] == "bitsandbytes");
  CHECK(nf4["bnb_4bit_quant_type"] == "nf4");
  CHECK(nf4["bnb_4bit_use_double_quant"] == true);

  const auto shape = [&](const std::string& format, const std::string& part) {
    const SafetensorsFile file(scene.directory / (format + "/model.safetensors"));
    return file.tensors().at("model.layers.0.self_attn.q_proj." + part).shape;  // 256 x 128
  };
  using Shape = std::vector<std::int64_t>;
  CHECK(shape("gptq-g32", "qweight") == Shape{16, 256});
  CHECK(shape("gptq-g32", "qzeros") == Shape{4, 32});
  CHECK(shape("gptq-g32", "g_idx") == Shape{128});
  CHECK(shape("awq-g32", "qweight") == Shape{128, 32});
  CHECK(shape("fp8", "weight_scale") == Shape{});
  CHECK(shape("fp8-block", "weight_scale_inv") == Shape{2, 1});
  CHECK(shape("ct-fp8-block", "weight_scale") == Shape{2, 1});
  CHECK(shape("modelopt-fp8", "weight_scale") == Shape{256});
  CHECK(shape("bnb-nf4", "weight") == Shape{16384, 1});
}

TEST_CASE("experts are written under their own names, routers as they are", "[export][layouts]") {
  const ScratchDirectory directory;
  write_tiny_base(directory / "base", {.ffn = 128, .head_dim = 64, .hidden = 128, .experts = 4});
  const auto base = model::open_weights(directory / "base");
  const std::string block = "model.layers.1.block_sparse_moe.", linear = block + "experts.2.w2";
  const auto adapter = lora::allocate({}, {{linear, 128, 128}}, false);
  adapter->parameters.fill_(0.01);
  struct Part {
    const char* format;
    std::vector<const char*> suffixes;
  };
  const Part parts[] = {{"gptq-g32", {".qweight", ".qzeros", ".g_idx", ".scales"}},
                        {"awq-g32", {".qweight", ".qzeros", ".scales"}},
                        {"fp8", {".weight", ".weight_scale"}},
                        {"fp8-block", {".weight", ".weight_scale_inv"}},
                        {"ct-fp8-block", {".weight", ".weight_scale"}},
                        {"ct-w4a16-g32", {".weight_packed", ".weight_scale", ".weight_shape"}}};
  for (const auto& [format, suffixes] : parts) {
    INFO(format);
    const auto made = testing::write(format, {*base, *adapter, at::kFloat, "Tiny", ""}, directory.path());
    const SafetensorsFile file(made.path / "model.safetensors");
    for (const char* suffix : suffixes) CHECK(file.tensors().contains(linear + suffix));
    if (std::string(format) == "fp8") {
      const auto scale_of = [&](const char* name) { return bytes_of(file, cat(block, "experts.2.", name, ".weight_scale")); };
      CHECK(scale_of("w1") == scale_of("w3"));
      CHECK(scale_of("w1") != scale_of("w2"));
    }
    CHECK(file.tensors().at(block + "gate.weight").dtype == DType::bf16);
    const auto reopened = model::open_weights(made.path);
    const at::Tensor merged = lora::merged_rows(*adapter, linear, 0, base->load(linear + ".weight", at::kFloat));
    CHECK((reopened->load(linear + ".weight", at::kFloat) - merged).abs().max().item<double>() <
          0.15 * merged.abs().max().item<double>());
  }
  const auto config = [&](const char* format) {
    return read_json(directory / (std::string(format) + "/config.json"))["quantization_config"];
  };
  const Json routers = {"lm_head", "model.layers.0.block_sparse_moe.gate", "model.layers.1.block_sparse_moe.gate"};
  CHECK(config("gptq-g32")["dynamic"] == Json::object({{"-:.*\\.block_sparse_moe\\.gate$", Json::object()}}));
  CHECK(config("awq-g32")["modules_to_not_convert"] == routers);
  CHECK(config("fp8")["ignored_layers"] == routers);
  CHECK(config("ct-fp8-block")["config_groups"]["group_0"]["weights"]["strategy"] == "block");
}

TEST_CASE("what a layout cannot hold is refused before any work", "[export][layouts]") {
  const GoldenCase golden_case("llama");
  const auto refusal = [](const std::string& format, const model::ModelSpec& spec) {
    return message_of<ConfigError>([&] { exports::check_formats({format}, spec, {}); });
  };
  model::ModelSpec spec = golden_case.base->spec();  // rows of 32 and 48
  CHECK(refusal("gptq-g32", spec) ==
        "export format gptq-g32: groups of 32 do not divide the rows of model.layers.0.mlp.down_proj.weight, which have 48 "
        "columns; "
        "choose a format with one scale per row, ct-w8a8 or ct-fp8");
  spec.hidden = 576, spec.ffn = 1536, spec.heads = 9, spec.kv_heads = 3, spec.head_dim = 64;  // SmolLM2-135M
  CHECK(refusal("awq-g128", spec) ==
        "export format awq-g128: groups of 128 do not divide the rows of model.layers.0.self_attn.q_proj.weight, which have 576 "
        "columns; choose groups of 64");
  CHECK(
      refusal("ct-fp8-block", spec) ==
      "export format ct-fp8-block: blocks of 128 do not divide the 576 rows of q, which servers join with others; choose ct-fp8");
  spec.heads = 10, spec.kv_heads = 2, spec.head_dim = 64;  // whole blocks of rows alone
  CHECK(refusal("fp8-block", spec) ==
        "export format fp8-block: blocks of 128 do not divide the 576 columns of q, and servers round its inputs by as many; "
        "choose "
        "ct-fp8");
  CHECK_NOTHROW(exports::check_formats({"gptq-g64", "awq-g64", "fp8", "modelopt-fp8", "bnb-nf4"}, spec, {}));
  spec.hidden = 577, spec.ffn = 1537;
  CHECK(contains(refusal("fp8", spec), "; readers of safetensors need multiples of 4"));
  spec.hidden = 576, spec.ffn = 1536;
  spec.moe = {.experts = 4, .per_token = 2, .ffn = 1536};
  CHECK(contains(refusal("modelopt-fp8", spec), "choose modelopt-fp8-static"));
  CHECK(contains(refusal("ct-fp8-static", spec), "choose ct-fp8"));
  CHECK(contains(refusal("bnb-nf4", spec), "bitsandbytes quantizes linear layers, not experts"));
}

TEST_CASE("hostile directories of every layout are refused with the tensor's name", "[export][layouts]") {
  const Scene scene;
  const auto refused = [](const fs::path& model) { return message_of<graft::Error>([&] { model::open_weights(model); }); };
  const auto with = [&](const std::string& format, const Json& changes) {
    const fs::path file = scene.directory / (format + "/config.json");
    const Json original = read_json(file);
    Json changed = original;
    changed["quantization_config"].merge_patch(changes);
    write_file(file, changed.dump());
    const std::string message = refused(file.parent_path());
    write_file(file, original.dump());
    return message;
  };
  for (const char* format : {"gptq-g32", "awq-g32", "fp8", "fp8-block", "modelopt-fp8", "bnb-nf4"}) scene.write(format);

  CHECK(contains(with("gptq-g32", {{"quant_method", "quark"}}),
                 "quant_method is 'quark'; graft reads awq, bitsandbytes, compressed-tensors"));
  CHECK(contains(with("gptq-g32", {{"bits", 3}}), "bits is 3; graft reads 4 and 8"));
  CHECK(contains(with("gptq-g32", {{"bits", "4"}}), "'bits' is a string where an integer is expected"));
  CHECK(contains(with("gptq-g32", {{"bits", 8}}), "q_proj.qweight has shape [16, 256], config.json asks for [32, 256]"));
  CHECK(contains(with("gptq-g32", {{"group_size", 0}}), "group_size is 0"));
  CHECK(contains(with("gptq-g32", {{"group_size", 16}}), "q_proj.qzeros has shape [4, 32], config.json asks for [8, 32]"));
  CHECK(contains(with("gptq-g32", {{"checkpoint_format", "marlin"}}), "checkpoint_format is 'marlin'"));
  CHECK(contains(with("gptq-g32", {{"quant_method", "awq"}, {"zero_point", true}}),
                 "q_proj.qweight has shape [16, 256], config.json asks for [128, 32]"));
  CHECK(contains(with("awq-g32", {{"bits", 8}}), "bits is 8; graft reads 4"));
  CHECK(contains(with("awq-g32", {{"version", "gemv"}}), "version is 'gemv'; graft reads gemm"));
  CHECK(contains(with("awq-g32", {{"group_size", 24}}), "q_proj.weight: rows of 128, which groups of 24 do not divide"));
  CHECK(contains(with("awq-g32", {{"zero_point", nullptr}}), "'zero_point' is missing"));
  CHECK(contains(with("awq-g32", {{"zero_point", false}}), "qzeros"));
  CHECK(contains(with("fp8", {{"activation_scheme", "static"}}), "q_proj.input_scale is missing"));
  CHECK(contains(with("fp8", {{"activation_scheme", "guessed"}}), "activation_scheme is 'guessed'"));
  CHECK(contains(with("fp8", {{"weight_block_size", {128, 128}}}), "stored as F8_E4M3; a base must be BF16, F16, F32 or F64"));
  for (const Json& size : {Json({128}), Json({128, 0}), Json({128, -1}), Json({128, 1 << 21}), Json("128"), Json({1.5, 1})})
    CHECK(contains(with("fp8-block", {{"weight_block_size", size}}), "the size of a block is not two positive numbers"));
  CHECK(contains(with("fp8-block", {{"weight_block_size", {64, 64}}}),
                 "q_proj.weight_scale_inv has shape [2, 1], config.json asks for [4, 2]"));
  CHECK(contains(with("modelopt-fp8", {{"quant_algo", "NVFP4"}}), "quant_algo is 'NVFP4'"));
  CHECK(contains(with("modelopt-fp8", {{"quant_algo", "FP8"}}), "weight_scale has shape [256], config.json asks for [1, 1]"));
  CHECK(contains(with("bnb-nf4", {{"bnb_4bit_quant_type", "fp4"}}), "not NF4 in bytes"));
  CHECK(contains(with("bnb-nf4", {{"load_in_4bit", false}}), "not NF4 in bytes"));
  CHECK(contains(with("bnb-nf4", {{"bnb_4bit_use_double_quant", false}}),
                 "q_proj.weight.absmax is stored as U8; config.json asks for F32"));

  // Contents: groups that are not there, and a state that contradicts the model.
  const auto patched = [&](const std::string& format, const std::string& part, const std::string& bytes) {
    const fs::path file = scene.directory / (format + "/model.safetensors");
    const std::string original = read_file(file);
    std::string changed = original;
    changed.replace(SafetensorsFile(file).tensors().at("model.layers.0.self_attn.q_proj." + part).begin, bytes.size(), bytes);
    write_file(file, changed);
    const std::string message = refused(file.parent_path());
    write_file(file, original);
    return message;
  };
  CHECK(contains(patched("gptq-g32", "g_idx", std::string("\x04\0\0\0", 4)),
                 "q_proj.weight: g_idx names group 4, there are 0 to 3"));
  CHECK(contains(patched("gptq-g32", "g_idx", std::string("\0\0\0\xff", 4)), "g_idx names group -16777216, there are 0 to 3"));
  const auto with_state = [&](std::string state) {
    state.resize(256, ' ');  // as long as the shortest
    return patched("bnb-nf4", "weight.quant_state.bitsandbytes__nf4", state);
  };
  CHECK(contains(with_state("[[[[["), "q_proj.weight: quant_state: byte"));
  CHECK(contains(with_state(R"({"quant_type": "fp4"})"), "q_proj.weight: quant_state: quant_type is not \"nf4\""));
  CHECK(contains(with_state(R"({"quant_type": "nf4", "blocksize": 16})"), "quant_state: blocksize is not 64"));
  CHECK(contains(with_state(R"({"quant_type": "nf4", "blocksize": 64, "shape": [128, 256]})"),
                 "quant_state: shape is not [256,128]"));
  CHECK(contains(with_state(R"({"quant_type": "nf4", "blocksize": 64, "shape": [256, 128], "nested_blocksize": 256})"),
                 "'nested_offset' is missing"));
}

TEST_CASE("biases of zeros that published GPTQ files carry are no part of the model, others are refused", "[export][layouts]") {
  const Scene scene;
  const exports::Artifact artifact = scene.write("gptq-g32");
  const auto plain = model::open_weights(artifact.path);
  const std::string linear = "model.layers.0.self_attn.k_proj", norm = "model.norm";
  const auto with_bias = [&](const std::string& module, std::int64_t rows, int last) {
    const fs::path copy = scene.directory / "biased";
    fs::remove_all(copy);
    fs::copy(artifact.path, copy, fs::copy_options::recursive);
    const SafetensorsFile file(artifact.path / "model.safetensors");
    SafetensorsWriter writer(copy / "model.safetensors");
    for (const auto& [name, tensor] : file.tensors()) writer.tensor(name, tensor.dtype, tensor.shape);
    writer.tensor(module + ".bias", DType::f16, {rows});
    for (const auto& [name, tensor] : file.tensors()) writer.data(name, file.data(tensor).data(), file.data(tensor).size());
    std::vector<std::uint16_t> values(static_cast<std::size_t>(rows), 0);
    values.back() = static_cast<std::uint16_t>(last);
    writer.data(module + ".bias", values.data(), values.size() * sizeof values[0]);
    writer.commit();
    return copy;
  };
  const auto refused = [](const fs::path& model) { return message_of<graft::Error>([&] { model::open_weights(model); }); };
  for (const int zero : {0, 0x8000}) {
    const auto read = model::open_weights(with_bias(linear, 128, zero));
    CHECK(read->weights().size() == plain->weights().size());
    CHECK(at::equal(read->load(linear + ".weight", at::kFloat), plain->load(linear + ".weight", at::kFloat)));
  }
  for (const int value : {1, 0x7e00})  // the least of all, NaN
    CHECK(contains(refused(with_bias(linear, 128, value)), "tensor '" + linear + ".bias' is not zero, and a LlamaForCausalLM"));
  CHECK(contains(refused(with_bias(linear, 64, 0)), "k_proj.bias' does not belong to a LlamaForCausalLM"));
  CHECK(contains(refused(with_bias(norm, 128, 0)), "norm.bias' does not belong to a LlamaForCausalLM"));
}

TEST_CASE("a base in any layout is exported as what it is, dequantized", "[export][layouts]") {
  const Scene scene;
  for (const char* format : {"gptq-g32", "awq-g32", "fp8-block", "bnb-nf4"}) {
    INFO(format);
    const auto artifact = scene.write(format);
    const auto base = model::open_weights(artifact.path);
    const auto again = testing::write("hf", {*base, *scene.adapter, at::kFloat, "Tiny", ""}, scene.directory.path());
    CHECK(!read_json(again.path / "config.json").contains("quantization_config"));
    const std::string name = "model.layers.1.mlp.up_proj.weight";
    CHECK(at::equal(model::open_weights(again.path)->load(name, at::kFloat),
                    base->load(name, at::kFloat).to(at::kBFloat16).to(at::kFloat)));
  }
}
