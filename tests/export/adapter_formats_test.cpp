// Formats that carry the adapter alone.
#include <cstring>

#include "core/gguf.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("GGUF LoRA equals the reference converter's", "[export][gguf-lora]") {
  const std::string family = GENERATE("llama", "mistral", "qwen2", "qwen3");  // qwen2's adapter is rsLoRA
  INFO(family);
  const GoldenCase golden_case(family);
  const ScratchDirectory directory;
  const GgufFile ours(write("gguf-lora", golden_case.request(), directory.path()).path), theirs(golden(family) / "lora.gguf");
  CHECK(ours.tensors().size() == theirs.tensors().size());
  for (const GgufTensor& expected : theirs.tensors()) {
    INFO(expected.name);
    const GgufTensor* found = ours.find(expected.name);
    REQUIRE(found);
    CHECK(found->shape == expected.shape);
    REQUIRE(found->bytes == expected.bytes);
    CHECK(std::memcmp(ours.data(*found).data(), theirs.data(expected).data(), expected.bytes) == 0);
  }
  for (const char* key : {"general.architecture", "general.type", "adapter.type"}) CHECK(ours.string(key) == theirs.string(key));
  // llama.cpp scales by alpha / r. The converter copies alpha even for rsLoRA, where the scale is alpha / sqrt(r).
  const double factor = golden_case.adapter->config.rslora ? 2 : 1;  // sqrt(4)
  CHECK(golden_case.adapter->config.rslora == (family == "qwen2"));
  CHECK(ours.number("adapter.lora.alpha") == factor * theirs.number("adapter.lora.alpha"));
}

TEST_CASE("the PEFT directory reads back as it was", "[export][peft]") {
  const GoldenCase golden_case("qwen2");
  const ScratchDirectory directory;
  const exports::Artifact artifact = write("peft", golden_case.request(), directory.path());
  const auto reopened = lora::load_peft(artifact.path);
  CHECK(reopened->config.rslora);
  CHECK(reopened->config.scale() == golden_case.adapter->config.scale());
  CHECK(at::equal(reopened->parameters, golden_case.adapter->parameters));
  REQUIRE(artifact.files.size() == 2);
  CHECK(artifact.files[0].name == "adapter_config.json");
  CHECK(artifact.files[1].name == "adapter_model.safetensors");
  CHECK(artifact.max_error == 0);
}

TEST_CASE("what a format cannot carry is refused before any work", "[export][refusal]") {
  model::ModelSpec spec = tiny_spec();
  spec.tied_head = true;
  lora::LoraConfig config;
  CHECK_NOTHROW(exports::check_formats({"peft", "hf", "gguf-f16", "gguf_q8_0", "gguf-lora"}, spec, config));
  config.target_modules = {"q_proj", "lm_head"};
  const std::string tied = message_of<ConfigError>([&] { exports::check_formats({"peft", "gguf-lora"}, spec, config); });
  CHECK(tied.find("export format gguf-lora: the head is tied to the embedding") == 0);
  CHECK(tied.find("remove lm_head from lora.target_modules") != std::string::npos);

  model::ModelSpec mixture = tiny_spec();
  mixture.moe = {.experts = 4, .per_token = 2, .ffn = 16};
  for (const std::vector<std::string>& targets :
       {lora::LoraConfig().target_modules, {"q_proj", "experts.*.up_proj"}, {"model.layers.1.mlp.experts.3.down_proj"}}) {
    config.target_modules = targets;
    CHECK(message_of<ConfigError>([&] { exports::check_formats({"gguf-lora"}, mixture, config); }) ==
          "export format gguf-lora: adapters of single experts have no place in a GGUF LoRA; choose attention modules in "
          "lora.target_modules or export a merged format");
  }
  config.target_modules = {"q_proj", "self_attn.*"};
  CHECK_NOTHROW(exports::check_formats({"gguf-lora"}, mixture, config));

  const std::string unknown = message_of<ConfigError>([&] { exports::check_formats({"gguf-q8"}, spec, config); });
  CHECK(unknown ==
        "export format 'gguf-q8' is not known; did you mean 'gguf-q8_0'? `graft help formats` lists what there is, by server");
}

TEST_CASE("an adapter of another base is refused", "[export][refusal]") {
  const GoldenCase llama("llama"), qwen3("qwen3");
  const ScratchDirectory directory;
  const exports::ExportRequest request = {*llama.base, *qwen3.adapter, at::kBFloat16, "Mixed", ""};
  for (const char* format : {"hf", "gguf-f16", "gguf-lora"}) {
    INFO(format);
    const std::string message = message_of<DataError>([&] { exports::export_all({format}, request, directory / "export"); });
    CHECK(message.find("the adapter is for another base") == 0);
    CHECK(!fs::exists(directory / "export"));
  }
}
