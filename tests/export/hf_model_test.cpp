// The merged Hugging Face directory.
#include "export/hf_model.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "data/tokenizer.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("the HF directory reopens as the merged model, companions byte for byte", "[export][hf]") {
  const std::string family = GENERATE("llama", "mistral", "qwen2", "qwen3");
  INFO(family);
  const GoldenCase golden_case(family);
  const ScratchDirectory directory;
  const exports::Artifact artifact = write("hf", golden_case.request(), directory.path());
  CHECK(artifact.max_error > 0);
  CHECK(artifact.max_error < 0x1p-8);

  // What PEFT merged in f32 and llama.cpp's converter rounded to f16, rounded here to bf16, is what we wrote, within f16's own
  // rounding.
  const auto ours = model::open_weights(artifact.path), theirs = model::open_weights(golden(family) / "f16.gguf");
  for (const model::WeightInfo& tensor : ours->weights()) {
    INFO(tensor.name);
    CHECK(tensor.stored_as == "BF16");
    const at::Tensor found = ours->load(tensor.name, at::kFloat), expected = theirs->load(tensor.name, at::kFloat);
    CHECK((found - expected).abs().le(expected.abs() * (0x1p-8 + 0x1p-10) + 0x1p-24).all().item<bool>());
  }
  int companions = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(golden(family) / "base"))
    if (entry.path().extension() != ".safetensors") {
      INFO(entry.path());
      CHECK(read_file(artifact.path / entry.path().filename()) == read_file(entry.path()));
      ++companions;
    }
  CHECK(companions >= 4);
}

TEST_CASE("the config says bfloat16 when the base said something else, or nothing", "[export][hf]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  fs::copy(golden("llama") / "base", directory / "base", fs::copy_options::recursive);
  Json config = read_json(directory / "base/config.json");
  const bool says = GENERATE(true, false);
  config.erase("torch_dtype");
  if (says)
    config["dtype"] = "float32";
  else
    config.erase("dtype");
  write_file(directory / "base/config.json", config.dump(2));
  const auto base = model::open_weights(directory / "base");
  const auto artifact = write("hf", {*base, *golden_case.adapter, at::kBFloat16, "Tiny", ""}, directory.path());
  config[says ? "dtype" : "torch_dtype"] = "bfloat16";
  CHECK(read_json(artifact.path / "config.json") == config);
}

TEST_CASE("in f16 for GPUs without bf16, and a value that does not fit is named", "[export][hf]") {
  const GoldenCase golden_case("qwen2");
  const ScratchDirectory directory;
  const auto artifact = write("hf-f16", golden_case.request(), directory.path());
  CHECK(artifact.max_error < 0x1p-11);
  CHECK(read_json(artifact.path / "config.json")["dtype"] == "float16");
  const exports::MergedModel merged(*golden_case.base, golden_case.adapter.get(), at::kBFloat16);
  const auto written = model::open_weights(artifact.path);
  for (const model::WeightInfo& tensor : written->weights()) {
    CHECK(tensor.stored_as == "F16");
    CHECK(at::equal(written->load(tensor.name, at::kFloat), merged.load(tensor.name).to(at::kHalf).to(at::kFloat)));
  }
  golden_case.adapter->adapters[0]->low_rank.b.fill_(1e6);
  const std::string message = message_of<FormatError>([&] { write("hf-f16", golden_case.request(), directory.path()); });
  CHECK(message.starts_with(cat("tensor ", golden_case.adapter->adapters[0]->module, ".weight (F16) reads back as ")));
  CHECK(message.ends_with("; the value does not fit f16, choose a bf16 format"));
}

TEST_CASE("every version of a tokenizer.model is copied", "[export][hf]") {
  const GoldenCase golden_case("mistral");
  const ScratchDirectory directory;
  fs::copy(golden("mistral") / "base", directory / "base", fs::copy_options::recursive);
  const auto before = exports::companions_hash(*model::open_weights(directory / "base"), {});
  write_file(directory / "base/tokenizer.model.v3", "Mistral's own");
  const auto base = model::open_weights(directory / "base");
  const auto artifact = write("hf", {*base, *golden_case.adapter, at::kBFloat16, "Tiny", ""}, directory.path());
  CHECK(read_file(artifact.path / "tokenizer.model.v3") == "Mistral's own");
  CHECK(exports::companions_hash(*base, {}) != before);
}

TEST_CASE("nothing names code that is not copied", "[export][hf]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  fs::copy(golden("llama") / "base", directory / "base", fs::copy_options::recursive);
  for (const char* name : {"config.json", "tokenizer_config.json"}) {
    Json config = read_json(directory / "base" / name);
    config["auto_map"] = {{"AutoConfig", "configuration_llama.LlamaConfig"}};
    write_file(directory / "base" / name, config.dump(2));
  }
  const auto base = model::open_weights(directory / "base");
  const auto artifact = write("hf", {*base, *golden_case.adapter, at::kBFloat16, "Tiny", ""}, directory.path());
  for (const char* name : {"config.json", "tokenizer_config.json"})
    CHECK(read_json(artifact.path / name) == read_json(golden("llama") / "base" / name));
}

TEST_CASE("large models are split into shards with an index", "[export][hf]") {
  const GoldenCase golden_case("qwen2");
  const exports::MergedModel source(*golden_case.base, golden_case.adapter.get(), at::kBFloat16);
  const ScratchDirectory directory;
  exports::Fingerprints made;
  exports::write_hf_weights(source, exports::bf16_encoding(made), directory.path(), made,
                            20'000);  // the embedding alone has 304 * 32 * 2 = 19,456 bytes
  exports::write_hf_companions(*golden_case.base, {}, directory.path());
  CHECK(!fs::exists(directory / "model.safetensors"));
  const Json index = read_json(directory / "model.safetensors.index.json");
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& tensor : source.tensors()) {
    std::uint64_t size = 2;
    for (const std::int64_t n : tensor.shape) size *= static_cast<std::uint64_t>(n);
    bytes += size;
    const SafetensorsFile shard(directory / index["weight_map"][tensor.name].get<std::string>());
    CHECK(shard.tensors().count(tensor.name) == 1);
    CHECK(fs::file_size(shard.path()) < 24'000);
  }
  CHECK(index["metadata"]["total_size"] == bytes);
  CHECK(fs::exists(directory / "model-00001-of-00004.safetensors"));
  CHECK(exports::verify_hf_model(source, directory.path(), made) < 0x1p-8);
}

TEST_CASE("hf-base is the base without the adapter", "[export][hf]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  const auto artifact = write("hf-base", golden_case.request(), directory.path());
  CHECK(artifact.path == directory / "hf-base");
  const auto written = model::open_weights(artifact.path);
  for (const model::WeightInfo& tensor : golden_case.base->weights())
    CHECK(at::equal(written->load(tensor.name, at::kFloat), golden_case.base->load(tensor.name, at::kFloat)));
}

TEST_CASE("the end of a turn that was trained on is one of the tokens that servers stop at", "[export][hf]") {
  const GoldenCase golden_case("qwen2");
  const ScratchDirectory scratch;
  const fs::path directory = scratch / "base", file = directory / "generation_config.json";
  fs::copy(golden("qwen2") / "base", directory, fs::copy_options::recursive);
  Json generation = read_json(file), config = read_json(directory / "config.json");
  CHECK(generation["eos_token_id"] == 298);
  const auto written = [&](const std::vector<std::int32_t>& stop_ids) {
    write_file(directory / "config.json", config.dump());
    const auto base = model::open_weights(directory);
    exports::ExportRequest request = {*base, *golden_case.adapter, at::kBFloat16, "Tiny", ""};
    request.stop_ids = stop_ids;
    fs::remove_all(scratch / "export");
    fs::create_directories(scratch / "export");
    const fs::path found = write("hf", request, scratch / "export").path / "generation_config.json";
    return fs::exists(found) ? read_json(found) : Json();
  };
  CHECK(written({298}) == generation);
  Json both = generation;
  both["eos_token_id"] = {298, 297};
  CHECK(written({297, 298}) == both);
  SECTION("the file names a list") {
    generation["eos_token_id"] = {298, 3};
    write_file(file, generation.dump());
    both["eos_token_id"] = {298, 3, 297};
    CHECK(written({297}) == both);
  }
  SECTION("the file names none, and the config does") {
    generation.erase("eos_token_id");
    write_file(file, generation.dump());
    CHECK(written({297})["eos_token_id"] == Json({298, 297}));
  }
  SECTION("there is no file") {
    fs::remove(file);
    CHECK(written({298}).is_null());
    CHECK(written({297}) == Json({{"bos_token_id", 296}, {"eos_token_id", {298, 297}}}));
  }
  SECTION("in files with quantized weights too") {
    const auto base = model::open_weights(directory);
    exports::ExportRequest request = {*base, *golden_case.adapter, at::kBFloat16, "Tiny", ""};
    request.stop_ids = {297};
    for (const char* format : {"ct-w8a8", "bnb-nf4", "hf-base"}) {
      INFO(format);
      CHECK(read_json(write(format, request, scratch.path()).path / "generation_config.json")["eos_token_id"] ==
            Json({298, 297}));
    }
  }
}

TEST_CASE("a GGUF base's end of a turn is one of the tokens that servers stop at", "[export][hf]") {
  const ScratchDirectory directory;
  const fs::path chat = directory / "chat.gguf";
  {
    const GgufFile plain(golden("llama") / "f16.gguf");
    GgufWriter writer(chat);
    for (const auto& [key, pair] : plain.pairs())
      if (key != "tokenizer.ggml.eot_token_id" && key != "tokenizer.ggml.eos_token_id") writer.pair(key, pair);
    writer.u32("tokenizer.ggml.eos_token_id", 1);
    writer.u32("tokenizer.ggml.eot_token_id", 2);
    for (const GgufTensor& tensor : plain.tensors()) writer.tensor(tensor.name, tensor.shape, tensor.type);
    for (const GgufTensor& tensor : plain.tensors()) writer.data(tensor.name, plain.data(tensor).data(), tensor.bytes);
    writer.commit();
  }
  const auto base = model::open_weights(chat);
  const auto adapter = lora::load_peft(golden("llama") / "adapter");
  const auto artifact = write("hf-base", {*base, *adapter, at::kFloat, "Tiny", ""}, directory.path());
  CHECK(read_json(artifact.path / "generation_config.json")["eos_token_id"] == Json({1, 2}));
  exports::ExportRequest request = {*base, *adapter, at::kFloat, "Tiny", ""};
  request.stop_ids = {2, 3};
  const auto trained = write("hf", request, directory.path());
  CHECK(read_json(trained.path / "generation_config.json")["eos_token_id"] == Json({1, 2, 3}));
}

TEST_CASE("the tokenizer of a GGUF base comes out as Hugging Face files with the same ids", "[export][hf]") {
  const std::string family = GENERATE("llama", "mistral", "qwen2", "qwen3");
  INFO(family);
  const auto base = model::open_weights(golden(family) / "f16.gguf");
  const auto adapter = lora::load_peft(golden(family) / "adapter");
  const ScratchDirectory directory;
  const auto artifact = write("hf", {*base, *adapter, at::kFloat, "Tiny", ""}, directory.path());
  const auto ours = data::load_tokenizer(artifact.path), original = data::load_tokenizer(golden(family) / "base");
  // The GGUF's word counts: where tokenizer_config.json says "no bos", as Qwen's does, the converter takes the id of config.json.
  const auto in_gguf = data::load_tokenizer(golden(family) / "f16.gguf");
  CHECK(ours->special().bos == in_gguf->special().bos);
  CHECK(ours->special().eos == in_gguf->special().eos);
  CHECK(ours->special().add_bos == in_gguf->special().add_bos);
  CHECK(read_json(artifact.path / "generation_config.json")["eos_token_id"] == in_gguf->special().eos);
  std::vector<const char*> texts = {"the quick brown fox", "PostgreSQL's manual: 12345",
                                    "größe \xF0\x9F\x9A\x80 <tool> <|im_end|>"};
  // SentencePiece's model of the tests trims spaces; the published ones do not, and GGUF has no key for it.
  if (family != "mistral") texts.push_back("  two  spaces\n");
  for (const char* text : texts) {
    INFO(text);
    std::vector<std::int32_t> found, expected;
    ours->encode(text, found);
    original->encode(text, expected);
    CHECK(found == expected);
  }
  if (fs::exists(golden(family) / "base/chat_template.jinja"))
    CHECK(read_file(artifact.path / "chat_template.jinja") == read_file(golden(family) / "base/chat_template.jinja"));
  CHECK(ours->chat_template() == original->chat_template());
}
