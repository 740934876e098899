// Adapter files against PEFT's own (tests/golden/lora/make.py), and hostile ones.
#include <ATen/ATen.h>

#include <fstream>

#include "core/error.h"
#include "core/file.h"
#include "lora/adapter.h"
#include "tests/support/catch.h"
#include "tests/support/files.h"

namespace graft::lora {
namespace {

using testing::message_of;
using testing::read_tensor;
using testing::TempDir;

const fs::path kGolden = fs::path(GRAFT_SOURCE_DIR) / "tests/golden/lora";
const std::string kModule = "model.layers.1.mlp.down_proj";

// A copy of the golden adapter with one key of its config changed.
std::string load_with(const char* key, const Json& value) {
  TempDir dir;
  fs::copy(kGolden / "lora", dir.path, fs::copy_options::recursive);
  Json json = read_json(dir / "adapter_config.json");
  json[key] = value;
  write_file(dir / "adapter_config.json", json.dump());
  std::string text = message_of<UserError>([&] { load_peft(dir.path); });
  const std::string place = dir.path.string() + "/";
  for (auto at = text.find(place); at != std::string::npos; at = text.find(place)) text.erase(at, place.size());
  return text;
}

// A PEFT directory with the golden config (rank 4) and these tensors.
struct RawTensor {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  float value = 0;
};
std::string load_tensors(const std::vector<RawTensor>& tensors) {
  TempDir dir;
  fs::copy(kGolden / "lora/adapter_config.json", dir / "adapter_config.json");
  SafetensorsWriter writer(dir / "adapter_model.safetensors");
  for (const auto& t : tensors) writer.tensor(t.name, t.dtype, t.shape);
  for (const auto& t : tensors) {
    std::int64_t count = 1;
    for (const auto size : t.shape) count *= size;
    const std::vector<float> data(static_cast<std::size_t>(count), t.value);
    writer.data(t.name, data.data(), data.size() * size_of(t.dtype));
  }
  writer.commit();
  return message_of<UserError>([&] { load_peft(dir.path); });
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("adapters that PEFT wrote are read and merged as PEFT merges them", "[lora]") {
  for (const std::string name : {"lora", "rslora", "pattern"}) {
    CAPTURE(name);
    const auto set = load_peft(kGolden / name);
    CHECK(set->config.rslora == (name == "rslora"));
    CHECK(set->config.rank == (name == "pattern" ? 2 : 4));
    CHECK_FALSE(set->gradients.defined());
    const SafetensorsFile merged(kGolden / name / "merged.safetensors");
    const at::Tensor before = read_tensor(merged, "before"), after = read_tensor(merged, "after");
    // PEFT multiplies a bf16 adapter in bf16: three significant digits.
    const double tolerance = name == "pattern" ? 1e-2 : 1e-6;
    CHECK((merged_rows(*set, kModule, 0, before) - after).abs().max().item<double>() <
          tolerance * after.abs().max().item<double>());
    CHECK(merged_rows(*set, "model.layers.0.mlp.up_proj", 0, before).is_same(before));
    CHECK_THROWS_AS(merged_rows(*set, kModule, 0, before.t()), std::logic_error);
    CHECK_THROWS_AS(merged_rows(*set, kModule, 1, before), std::logic_error);
  }
  CHECK(load_peft(kGolden / "pattern")->config.target_modules ==
        std::vector<std::string>{"model.layers.1.mlp.down_proj", "model.layers.1.self_attn.o_proj"});
  CHECK(load_peft(kGolden / "lora")->config.target_modules == std::vector<std::string>{"down_proj", "q_proj"});
}

TEST_CASE("an adapter survives saving and loading bit for bit, with PEFT's keys", "[lora]") {
  TempDir dir;
  LoraConfig config{.rank = 3, .alpha = 6, .dropout = 0.1, .target_modules = {"all-linear"}};
  std::vector<AdapterShape> shapes;
  for (int layer = 0; layer < 11; ++layer) shapes.push_back({cat("model.layers.", layer, ".mlp.up_proj"), 5, 7});
  const auto set = allocate(config, shapes, true);
  set->parameters.copy_(at::arange(set->count(), at::kFloat).div(7));
  set->base_identity = "0123";
  save_peft(*set, dir.path, "base/model");

  const auto back = load_peft(dir.path);
  CHECK(back->parameters.equal(set->parameters));  // same order too: layer 10 after layer 9
  CHECK(back->base_identity == "0123");
  CHECK(back->config.rank == 3);
  CHECK(back->config.alpha == 6);
  CHECK(back->config.target_modules == std::vector<std::string>{"up_proj"});

  const Json ours = read_json(dir / "adapter_config.json"), theirs = read_json(kGolden / "lora/adapter_config.json");
  CHECK(ours["base_model_name_or_path"] == "base/model");
  CHECK(ours["lora_alpha"].is_number_integer());
  for (const auto& [key, value] : ours.items()) {
    CAPTURE(key);
    CHECK(theirs.contains(key));  // nothing that PEFT does not know
  }
  const SafetensorsFile file(dir / "adapter_model.safetensors");
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.tensors().at("base_model.model.model.layers.10.mlp.up_proj.lora_A.weight").shape == std::vector<std::int64_t>{3, 5});
  CHECK(file.tensors().at("base_model.model.model.layers.10.mlp.up_proj.lora_B.weight").shape == std::vector<std::int64_t>{7, 3});

  set->config.target_modules = {"layers.*.up_proj"};
  save_peft(*set, dir.path, "b");
  CHECK(read_json(dir / "adapter_config.json")["target_modules"][0] == "model.layers.0.mlp.up_proj");
}

TEST_CASE("what would change an adapter's meaning is refused by name", "[lora]") {
  CHECK(load_with("use_dora", true) ==
        "adapter_config.json: 'use_dora' is set; graft reads LoRA and rsLoRA with one rank and no further features. If the key "
        "does not change this adapter, remove it from the file");
  const std::vector<std::pair<const char*, Json>> features = {{"modules_to_save", {"lm_head"}},
                                                              {"bias", "all"},
                                                              {"fan_in_fan_out", true},
                                                              {"rank_pattern", {{"q_proj", 2}}},
                                                              {"alpha_pattern", {{"q", 2}}},
                                                              {"lora_bias", true},
                                                              {"target_parameters", {1}},
                                                              {"layer_replication", {{0, 1}}},
                                                              {"use_qalora", true},
                                                              {"some_new_key", 3}};
  for (const auto& [key, value] : features) {
    CAPTURE(key);
    CHECK(contains(load_with(key, value), cat("'", key, "' is set")));
  }
  CHECK(contains(load_with("init_lora_weights", "pissa_niter_4"), "init_lora_weights is 'pissa_niter_4', which trains against"));
  CHECK(load_with("init_lora_weights", "gaussian").empty());
  CHECK(load_with("task_type", "SEQ_CLS").empty());
  CHECK(load_with("peft_type", "LOHA") == "adapter_config.json: peft_type is 'LOHA'; graft reads LORA");
  CHECK(load_with("r", 0) == "adapter_config.json: r is 0, outside 1 to 65536");
  CHECK(contains(load_with("r", "4"), "'r' is a string where an integer is expected"));
  CHECK(contains(load_with("lora_alpha", -1), "lora_alpha is -1"));
  CHECK(contains(load_with("lora_dropout", 1), "lora_dropout is 1"));
  CHECK(contains(load_with("target_modules", 7), "target_modules"));
  CHECK(load_with("r", 5) ==
        "adapter_model.safetensors: tensor 'base_model.model.model.layers.0.mlp.down_proj.lora_A.weight' has "
        "rank 4, adapter_config.json says r = 5");
}

TEST_CASE("malformed adapter tensors are refused by name", "[lora]") {
  const std::string a = "base_model.model.x.lora_A.weight", b = "base_model.model.x.lora_B.weight";
  CHECK(load_tensors({{a, DType::f32, {4, 3}}, {b, DType::f32, {5, 4}}}).empty());
  CHECK(contains(load_tensors({{a, DType::f32, {4, 3}}}), "module 'x' has only lora_A"));
  CHECK(contains(load_tensors({}), "holds no adapter"));
  CHECK(contains(load_tensors({{a, DType::f32, {4, 3}}, {b, DType::f32, {4, 5}}}), "has rank 5"));
  CHECK(contains(load_tensors({{a, DType::f32, {12}}, {b, DType::f32, {5, 4}}}), "has 1 dimensions"));
  CHECK(contains(load_tensors({{a, DType::i32, {4, 3}}, {b, DType::f32, {5, 4}}}), "is I32, not F32, F16 or BF16"));
  CHECK(contains(load_tensors({{a, DType::f32, {4, 3}, NAN}, {b, DType::f32, {5, 4}}}), "not finite"));
  for (const char* name : {"base_model.model.x.lora_magnitude_vector", "base_model.model.lm_head.weight", "x.lora_A.weight",
                           "base_model.model.lora_A.weight", "base_model.model.e.lora_embedding_A"}) {
    CAPTURE(name);
    CHECK(contains(load_tensors({{a, DType::f32, {4, 3}}, {b, DType::f32, {5, 4}}, {name, DType::f32, {4, 4}}}),
                   cat("tensor '", name, "' is not base_model.model.<module>.lora_A.weight")));
  }
}

TEST_CASE("every truncation and bit flip of an adapter file is an error or the same adapter", "[lora]") {
  TempDir dir;
  fs::copy(kGolden / "lora/adapter_config.json", dir / "adapter_config.json");
  const std::string good = read_file(kGolden / "lora/adapter_model.safetensors");
  const auto header = 8 + static_cast<std::size_t>(*reinterpret_cast<const std::uint64_t*>(good.data()));
  const auto loads = [&](const std::string& bytes) {
    std::ofstream(dir / "adapter_model.safetensors", std::ios::binary) << bytes;
    try {
      load_peft(dir.path);
      return true;
    } catch (const UserError&) {
      return false;
    }
  };
  REQUIRE(loads(good));
  for (std::size_t size = 0; size < good.size(); size += size < header ? 13 : 101) CHECK_FALSE(loads(good.substr(0, size)));
  for (std::size_t bit = 0; bit < header * 8; bit += 5) {  // must not crash; a flip in a name or in metadata may still be legal
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    loads(flipped);
  }
  fs::remove(dir / "adapter_model.safetensors");
  CHECK_THROWS_AS(load_peft(dir.path), UserError);
}

}  // namespace graft::lora
