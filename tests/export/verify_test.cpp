// Verification finds what is wrong in a file that reads well.
#include <fstream>

#include "core/file.h"
#include "core/gguf.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "export/compare.h"
#include "export/quantize/ggml.h"
#include "export/verify.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_base.h"

using namespace graft;
using namespace graft::testing;

namespace {

void flip_bit(const fs::path& file, std::uint64_t byte, int bit) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(byte));
  const char value = static_cast<char>(stream.get() ^ (1 << bit));
  stream.seekp(static_cast<std::streamoff>(byte));
  stream.put(value);
}

at::Tensor bounds(const std::string& stored_as, const at::Tensor& x) {
  at::Tensor largest = at::empty_like(x);
  exports::rounding_bounds(stored_as, x.const_data_ptr<float>(), x.numel(), largest.mutable_data_ptr<float>());
  return largest;
}

}  // namespace

TEST_CASE("rounding bounds hold for the writers and not for twice as much", "[export][verify]") {
  at::manual_seed(3);
  const at::Tensor x = at::randn({64, 96}, at::kFloat) * at::exp2(at::randint(-20, 10, {64, 1}).to(at::kFloat));
  const auto error_of = [&](const at::Tensor& y) { return (y - x).abs(); };
  const auto within = [&](const char* type, const at::Tensor& error) { return error.le(bounds(type, x)).all().item<bool>(); };
  std::vector<std::pair<std::string, at::Tensor>> stored = {{"BF16", x.to(at::kBFloat16).to(at::kFloat)},
                                                            {"F16", x.to(at::kHalf).to(at::kFloat)}};
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1, GgmlType::q8_0})
    stored.emplace_back(info_of(type).name, exports::quantized(x, type));
  for (const auto& [type, y] : stored) {
    INFO(type);
    CHECK(within(type.c_str(), error_of(y)));
    CHECK(!within(type.c_str(), error_of(y) * 2.5));
  }
  CHECK(within("F32", error_of(x)));
  CHECK(!within("F32", error_of(x * (1 + 0x1p-23))));
  CHECK(message_of<UnsupportedError>([&] { bounds("Q4_K", x); }).find("stored as Q4_K") != std::string::npos);
}

TEST_CASE("a changed value is named with its tensor", "[export][verify]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  const auto request = golden_case.request();
  const Noted written("hf", request, directory.path());
  CHECK(written.verify(request) < 0x1p-8);
  const fs::path file = written.path / "model.safetensors";
  const SafeTensor tensor = SafetensorsFile(file).tensors().at("model.layers.1.mlp.up_proj.weight");
  flip_bit(file, tensor.begin + 2 * 100, 1);  // two units in the last place of element 100
  const std::string message = message_of<FormatError>([&] { written.verify(request); });
  CHECK(message.find("tensor model.layers.1.mlp.up_proj.weight (BF16) reads back as") != std::string::npos);
  CHECK(message.find("at element 100 where the source has") != std::string::npos);
}

TEST_CASE("a code off by one is found where the scales come of a search", "[export][verify]") {
  const ScratchDirectory directory;
  write_tiny_base(directory / "base", {.ffn = 256});
  const auto base = model::open_weights(directory / "base");
  const auto adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 256, 32}}, false);
  adapter->parameters.fill_(0.01);
  const exports::ExportRequest request = {*base, *adapter, at::kFloat, "Tiny", ""};
  const std::string format = GENERATE("gguf-q4_k_s", "gguf-q5_k_m", "gguf-q6_k");
  INFO(format);
  const Noted written(format, request, directory.path());
  CHECK(written.verify(request) > 0);
  const GgufTensor tensor = *GgufFile(written.path).find("blk.0.ffn_down.weight");
  CHECK(info_of(tensor.type).block == 256);
  flip_bit(written.path, tensor.offset + 100, 0);
  CHECK(message_of<FormatError>([&] { written.verify(request); }) ==
        cat(written.path.string(), ": tensor model.layers.0.mlp.down_proj.weight (", info_of(tensor.type).name,
            ") does not read back as it was written"));
  // What nobody noted has no bound, and is not taken for good.
  CHECK(message_of<UnsupportedError>([&] {
          written.exporter.verify(request, written.path, {});
        }).starts_with("no rounding bound is known for tensors stored as Q"));
}

TEST_CASE("a value beyond f16 is refused with the way out", "[export][verify]") {
  const GoldenCase golden_case("qwen2");
  const ScratchDirectory directory;
  golden_case.adapter->find("model.layers.0.self_attn.v_proj")->low_rank.b.mul_(1e7);
  const std::string message = message_of<FormatError>([&] { write("gguf-f16", golden_case.request(), directory.path()); });
  CHECK(message.find("tensor model.layers.0.self_attn.v_proj.weight (F16) reads back as") != std::string::npos);
  CHECK(message.find("the value does not fit f16, choose a bf16 format") != std::string::npos);
  CHECK(fs::is_empty(directory.path()));  // nothing half-written
}

TEST_CASE("another model's file is not taken for this one", "[export][verify]") {
  const GoldenCase llama("llama"), mistral("mistral");
  const exports::MergedModel source(*llama.base, nullptr, at::kFloat);
  const std::string message = message_of<FormatError>([&] { exports::verify_model(source, *mistral.base); });
  CHECK(message.find("reopened, the model's vocabulary is 350 where the base has 304") != std::string::npos);
}

TEST_CASE("a config that says something else of the same weights is found", "[export][verify]") {
  struct Case {
    std::int64_t experts;
    Json own, other;
    const char* message;
  };
  const Json linear = {{"rope_type", "linear"}, {"factor", 2.0}};
  const Case cases[] = {
      {0, {}, {{"rope_scaling", linear}}, "the model's rotary frequency 0 is 0.5 where the base has 1"},
      {0, {{"rope_scaling", linear}}, {}, "the model's rotary frequency 0 is 1 where the base has 0.5"},
      {2, {}, {{"num_experts_per_tok", 1}}, "the model's number of experts of a token is 1 where the base has 2"},
      {0,
       {{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}, {"sliding_window", 64}},
       {{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}, {"sliding_window", 32}},
       "the model's sliding window of layer 0 is 32 where the base has 64"},
      {0,
       {{"model_type", "smollm3"}, {"architectures", {"SmolLM3ForCausalLM"}}, {"no_rope_layers", {1, 0}}},
       {{"model_type", "smollm3"}, {"architectures", {"SmolLM3ForCausalLM"}}, {"no_rope_layers", {1, 1}}},
       "the model's position embedding of layer 1 is 1 where the base has 0"},
  };
  for (const Case& c : cases) {
    INFO(c.message);
    const ScratchDirectory scratch;
    const auto opened = [&](const char* name, const Json& changes) {
      write_tiny_base(scratch / name, {.experts = c.experts});
      Json config = read_json(scratch / name / "config.json");
      if (!changes.is_null()) config.update(changes);
      write_file(scratch / name / "config.json", config.dump());
      return model::open_weights(scratch / name);
    };
    const auto own = opened("own", c.own), other = opened("other", c.other);
    const exports::MergedModel source(*own, nullptr, at::kFloat);
    CHECK(exports::verify_model(source, *own) == 0);
    const std::string message = message_of<FormatError>([&] { exports::verify_model(source, *other); });
    INFO(message);
    CHECK(message.find(c.message) != std::string::npos);
  }
}
