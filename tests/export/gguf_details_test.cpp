// What a GGUF file says of a base where a reader would otherwise compute something else: norms that are stored as 1 + w, scalings
// of rotary embeddings, tokens that the base does not embed.
#include <cmath>
#include <cstring>

#include "core/gguf.h"
#include "core/json.h"
#include "export/gguf_model.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

namespace {

// A tiny base with changes, and an adapter on it, as one GGUF file.
struct Changed {
  ScratchDirectory directory;
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<lora::AdapterSet> adapter;

  explicit Changed(const Json& config = Json::object()) {
    write_tiny_base(directory / "base");
    Json whole = read_json(directory / "base/config.json");
    whole.update(config);
    write_file(directory / "base/config.json", whole.dump());
  }
  exports::Artifact exported(const std::string& format, at::ScalarType storage = at::kBFloat16) {
    base = model::open_weights(directory / "base");
    adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 64, 32}}, false);
    return *exports::export_one(exports::find_exporter(format), {*base, *adapter, storage, "Tiny", ""}, directory.path());
  }
  // The values of a tensor of model.safetensors, f32, are changed in place.
  void write(const std::string& tensor, const std::vector<float>& values) {
    const fs::path file = directory / "base/model.safetensors";
    std::string bytes = read_file(file);
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    const Json json = parse_json(bytes.substr(8, header), "header");
    const auto begin = json[tensor]["data_offsets"][0].get<std::size_t>();
    REQUIRE(json[tensor]["data_offsets"][1].get<std::size_t>() - begin >= values.size() * sizeof(float));
    std::memcpy(bytes.data() + 8 + header + begin, values.data(), values.size() * sizeof(float));
    write_file(file, bytes);
  }
};

}  // namespace

TEST_CASE("norms of Gemma that 1 + w rounds are written, and verified as what a reader has", "[export][gguf]") {
  Changed gemma(Json{{"architectures", {"GemmaForCausalLM"}}, {"model_type", "gemma"}, {"hidden_act", "gelu_pytorch_tanh"}});
  // Not on the grid of f32 beside 1: 0.1f; the bf16 0x3581; one far below.
  const std::vector<float> gains = {0.1f, 0x1.02p-20f, -0x1.8p-30f, 0.5f};
  gemma.write("model.norm.weight", gains);
  for (const at::ScalarType storage : {at::kFloat, at::kBFloat16})
    for (const char* format : {"gguf-f32", "gguf-q8_0", "gguf-base-bf16"}) {
      INFO(format);
      const auto written = model::open_weights(gemma.exported(format, storage).path);
      const at::Tensor read = written->load("model.norm.weight", at::kFloat);
      for (std::size_t i = 0; i < gains.size(); ++i) {
        const float gain = storage == at::kFloat ? gains[i] : f32_from_bf16(bf16_from_f32(gains[i]));
        CHECK(read[static_cast<std::int64_t>(i)].item<float>() == (1 + gain) - 1);
      }
      fs::remove(gemma.directory / (std::string(format) + ".gguf"));
    }
}

TEST_CASE("YaRN with an attention factor of its own is written where llama.cpp reads it", "[export][gguf]") {
  const auto exported = [](const Json& rope) {
    Changed yarn(Json{{"rope_scaling", rope}});
    const fs::path file = yarn.exported("gguf-f32").path;
    const GgufFile gguf(file);
    const model::ModelSpec spec = model::open_weights(file)->spec();
    CHECK(spec.rope.attention_factor == Approx(yarn.base->spec().rope.attention_factor).epsilon(1e-6));
    return gguf.number_or("llama.rope.scaling.attn_factor", 0);
  };
  Json rope = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  CHECK(exported(rope) == 0);  // what llama.cpp computes itself
  rope["attention_factor"] = 1.0;
  CHECK(exported(rope) == Approx(1 / (1 + 0.1 * std::log(4.0))).epsilon(1e-6));
}

TEST_CASE("added tokens beyond the embedding are left out, as when the base was opened", "[export][gguf]") {
  Changed base;
  const fs::path file = base.directory / "base/tokenizer.json";
  Json tokenizer = read_json(file);
  Json more = tokenizer["added_tokens"][0];
  more["id"] = 1700;
  more["content"] = "[X]";
  tokenizer["added_tokens"].push_back(more);
  write_file(file, tokenizer.dump());
  const GgufFile gguf(base.exported("gguf-f32").path);
  CHECK(std::get<std::vector<std::string>>(gguf.pairs().at("tokenizer.ggml.tokens").value).size() == 1700);
}
