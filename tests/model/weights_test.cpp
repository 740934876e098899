// Weights from Hugging Face directories and from GGUF: values, rounding, identity, and files that must be refused.
#include "model/weights.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <map>

#include "core/gguf.h"
#include "core/safetensors.h"
#include "model/decoder.h"
#include "model/weights_source.h"
#include "tests/model/support.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::model {
namespace {

using namespace graft::testing;
using Catch::Matchers::Contains;

float value_at(DType type, const std::byte* at) {  // decoded without ATen
  std::uint32_t bits = 0;
  if (type == DType::f32) {
    std::memcpy(&bits, at, 4);
  } else {
    std::uint16_t half;
    std::memcpy(&half, at, 2);
    if (type == DType::bf16) {
      bits = static_cast<std::uint32_t>(half) << 16;
    } else {
      const int exponent = (half >> 10) & 31, mantissa = half & 1023;
      const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      return static_cast<float>(half & 0x8000 ? -magnitude : magnitude);
    }
  }
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// A copy of a golden model whose tensors can be renamed, dropped, reshaped or spread over shards before it is written.
struct Editable {
  explicit Editable(const std::string& name)
      : source(golden_model(name) / "model.safetensors"), config(golden_model(name) / "config.json") {
    for (const auto& [tensor, info] : source.tensors()) {
      const auto bytes = source.data(info);
      tensors[tensor] = {info.dtype, info.shape, {bytes.begin(), bytes.end()}};
    }
  }
  struct Stored {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  static void write(const fs::path& path, const std::map<std::string, Stored>& tensors) {
    SafetensorsWriter writer(path);
    for (const auto& [name, t] : tensors) writer.tensor(name, t.dtype, t.shape);
    for (const auto& [name, t] : tensors) writer.data(name, t.bytes.data(), t.bytes.size());
    writer.commit();
  }
  std::string refusal(const char* name) const {
    const Folder folder(name);
    folder.copy(config);
    write(folder / "model.safetensors", tensors);
    return message_of([&] { open_weights(folder.path()); });
  }
  SafetensorsFile source;
  fs::path config;
  std::map<std::string, Stored> tensors;
};

// The llama golden in two shards with an index.
struct Sharded {
  explicit Sharded(const std::string& name) : folder(name) {
    const Editable model("llama");
    folder.copy(model.config);
    std::map<std::string, Editable::Stored> parts[2];
    Json map = Json::object();
    for (const auto& [tensor, stored] : model.tensors) {
      const int part = tensor.find("layers.1") != std::string::npos ? 1 : 0;
      parts[part][tensor] = stored;
      map[tensor] = file(part);
    }
    for (int part : {0, 1}) Editable::write(folder / file(part), parts[part]);
    index = {{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
  }
  static std::string file(int part) { return cat("model-0000", part + 1, "-of-00002.safetensors"); }
  std::unique_ptr<WeightSource> open() const {
    write_file(folder / "model.safetensors.index.json", index.dump());
    return open_weights(folder.path());
  }
  std::string refusal() const {
    return message_of([&] { open(); });
  }
  Folder folder;
  Json index;
};

}  // namespace

TEST_CASE("every tensor of every golden model is read as it was stored", "[weights]") {
  for (const std::string& name : golden_models()) {
    const auto weights = open_weights(golden_model(name));
    const SafetensorsFile file(golden_model(name) / "model.safetensors");
    CHECK(weights->weights().size() == file.tensors().size());
    CHECK(weights->weights().front().name == "model.embed_tokens.weight");
    CHECK_FALSE(weights->is_gguf());
    for (const WeightInfo& info : weights->weights()) {
      INFO(name << " " << info.name);
      const SafeTensor& stored = file.tensors().at(info.name);
      CHECK(info.stored_as == name_of(stored.dtype));
      const at::Tensor values = weights->load(info.name, at::kFloat);
      REQUIRE(values.sizes() == at::IntArrayRef(info.shape));
      REQUIRE(values.is_contiguous());
      const auto bytes = file.data(stored);
      for (std::int64_t i = 0; i < values.numel(); ++i)
        if (values.const_data_ptr<float>()[i] != value_at(stored.dtype, bytes.data() + i * size_of(stored.dtype)))
          FAIL("element " << i << " differs");
    }
  }
}

TEST_CASE("f32 weights round to the nearest bf16, ties to even", "[weights]") {
  const auto weights = open_weights(golden_model("llama"));
  for (const WeightInfo& info : weights->weights()) {
    const at::Tensor exact = weights->load(info.name, at::kFloat), rounded = weights->load(info.name, at::kBFloat16);
    REQUIRE(rounded.scalar_type() == at::kBFloat16);
    for (std::int64_t i = 0; i < exact.numel(); ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, exact.const_data_ptr<float>() + i, 4);
      std::uint16_t got;
      std::memcpy(&got, static_cast<const std::byte*>(rounded.const_data_ptr()) + 2 * i, 2);
      const std::uint32_t below = bits >> 16, rest = bits & 0xffff;
      const std::uint32_t want = below + (rest > 0x8000 || (rest == 0x8000 && (below & 1)) ? 1 : 0);
      if (got != want) FAIL(info.name << " element " << i << " is " << got << ", should be " << want);
    }
  }
}

TEST_CASE("a GGUF file gives the tensors of its Hugging Face twin", "[weights][gguf]") {
  for (const std::string& name : golden_models()) {
    if (!fs::exists(golden_model(name) / "model.gguf")) continue;
    const auto hf = open_weights(golden_model(name)), gguf = open_weights(golden_model(name) / "model.gguf");
    CHECK(gguf->is_gguf());
    REQUIRE(gguf->weights().size() == hf->weights().size());
    const bool shifted = hf->spec().norm_gain_offset != 0;
    for (std::size_t i = 0; i < hf->weights().size(); ++i) {
      const WeightInfo& info = hf->weights()[i];
      INFO(name << " " << info.name);
      CHECK(gguf->weights()[i].name == info.name);
      const at::Tensor want = hf->load(info.name, at::kFloat), got = gguf->load(info.name, at::kFloat);
      // 1 + w was rounded to f32 when it was written; everything else is exact.
      if (shifted && info.name.ends_with("norm.weight"))
        CHECK((got - want).abs().max().item<double>() < 1.5e-7);
      else
        CHECK(same_bits(got, want));
    }
    INFO(name);
    // And the decoder cannot tell: same logits as the golden test has from the directory.
    Packed batch;
    batch.tokens = at::arange(3, 20, at::kLong);
    batch.positions = at::arange(17);
    batch.starts = {0, 17};
    const at::Tensor from_hf = Decoder::load(*hf, at::kFloat, at::kFloat)->logits(batch);
    CHECK(relative_error(Decoder::load(*gguf, at::kFloat, at::kFloat)->logits(batch), from_hf) < 1e-5);
  }
}

TEST_CASE("numbers of 16 bits are read from any address", "[weights]") {
  at::manual_seed(7);
  for (const auto& [type, scalar] : {std::pair{DType::bf16, at::kBFloat16}, {DType::f16, at::kHalf}}) {
    const at::Tensor stored = at::randn({3, 35}, at::kFloat).to(scalar);
    std::vector<std::byte> bytes(1 + stored.nbytes());
    std::memcpy(bytes.data() + 1, stored.const_data_ptr(), stored.nbytes());
    for (const at::ScalarType wanted : {at::kFloat, at::kBFloat16})
      CHECK(same_bits(convert_stored(std::span(bytes).subspan(1), type, stored.sizes(), wanted), stored.to(wanted)));
  }
  CHECK(convert_stored({}, DType::bf16, std::vector<std::int64_t>{0, 4}, at::kFloat).numel() == 0);
}

TEST_CASE("shards are one model, with one identity", "[weights]") {
  const Sharded sharded("shards");
  const auto single = open_weights(golden_model("llama")), parts = sharded.open();
  std::stop_source given_up;
  given_up.request_stop();
  CHECK_THROWS_AS(single->sum_content(given_up.get_token()), Interrupted);
  CHECK(single->identity().size() == 64);  // nothing is left of the attempt
  CHECK(parts->identity() == single->identity());
  for (const WeightInfo& info : single->weights())
    CHECK(same_bits(parts->load(info.name, at::kFloat), single->load(info.name, at::kFloat)));

  Editable changed("llama");
  changed.tensors["model.norm.weight"].bytes[0] ^= std::byte{1};
  const Folder folder("changed");
  folder.copy(changed.config);
  Editable::write(folder / "model.safetensors", changed.tensors);
  CHECK(open_weights(folder.path())->identity() != single->identity());
}

TEST_CASE("an index that lies is refused", "[weights][hostile]") {
  const std::string norm = "model.norm.weight";
  SECTION("a shard outside the directory") {
    for (const char* name : {"../model.safetensors", "/etc/passwd", "a/../../model.safetensors", "..", ""}) {
      Sharded model("outside");
      model.index["weight_map"][norm] = name;
      CHECK_THAT(model.refusal(), Contains("leads outside of this directory"));
    }
  }
  SECTION("a shard that is no safetensors file") {
    Sharded model("suffix");
    model.index["weight_map"][norm] = "config.json";
    CHECK_THAT(model.refusal(), Contains("'model.norm.weight' is said to be in 'config.json', which is not a safetensors file"));
  }
  SECTION("a missing shard") {
    Sharded model("missing");
    fs::remove(model.folder / Sharded::file(1));
    CHECK_THAT(model.refusal(),
               Contains("model-00002-of-00002.safetensors: shard is missing; model.safetensors.index.json names it"));
  }
  SECTION("a tensor in another shard") {
    Sharded model("moved");
    model.index["weight_map"][norm] = Sharded::file(1);
    CHECK_THAT(model.refusal(), Contains("is said to be in 'model-00002-of-00002.safetensors', which does not hold it"));
  }
  SECTION("a tensor in two shards") {
    const Sharded model("twice");
    Editable whole("llama");
    Editable::write(model.folder / Sharded::file(1), whole.tensors);
    CHECK_THAT(model.refusal(), Contains("is in both"));
  }
  SECTION("no map, a map of numbers") {
    Sharded model("nomap");
    model.index["weight_map"] = Json::array();
    CHECK_THAT(model.refusal(), Contains("weight_map is missing or not an object"));
    model.index["weight_map"] = {{norm, 5}};
    CHECK_THAT(model.refusal(), Contains("the shard of tensor 'model.norm.weight' is not a string"));
    model.index = Json::array();
    CHECK_THAT(model.refusal(), Contains("weight_map is missing or not an object"));
  }
}

TEST_CASE("tensors that do not fit the config are refused", "[weights][hostile]") {
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  SECTION("missing") {
    Editable model("llama");
    model.tensors.erase(q);
    model.tensors.erase("lm_head.weight");
    CHECK_THAT(model.refusal("absent"), Contains("2 of the 21 tensors of a LlamaForCausalLM are missing, the first is " + q));
  }
  SECTION("another shape") {
    Editable model("llama");
    model.tensors[q].shape = {16, 64};
    CHECK_THAT(model.refusal("shape"), Contains(q + " has shape [16, 64], config.json asks for [32, 32]"));
  }
  SECTION("an extra tensor") {
    Editable model("llama");
    model.tensors["model.layers.0.self_attn.q_proj.bias"] = model.tensors["model.norm.weight"];
    CHECK_THAT(model.refusal("extra"),
               Contains("tensor 'model.layers.0.self_attn.q_proj.bias' does not belong to a LlamaForCausalLM"));
  }
  SECTION("a type of another world") {
    Editable model("llama");
    model.tensors[q].dtype = DType::i32;
    CHECK_THAT(model.refusal("type"), Contains(q + " is stored as I32; a base must be BF16, F16, F32 or F64"));
  }
  SECTION("what old files carry is no error") {
    Editable tied("smollm2");
    tied.tensors["lm_head.weight"] = tied.tensors["model.embed_tokens.weight"];
    tied.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = tied.tensors["model.norm.weight"];
    CHECK(tied.refusal("redundant").empty());
  }
}

TEST_CASE("cut files are refused", "[weights][hostile]") {
  const Folder folder("cut");
  folder.copy(golden_model("llama") / "config.json");
  const std::string bytes = read_file(golden_model("llama") / "model.safetensors");
  for (std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    write_file(folder / "model.safetensors", std::string_view(bytes).substr(0, size));
    CHECK_THROWS_AS(open_weights(folder.path()), FormatError);
  }
  const std::string gguf = read_file(golden_model("llama") / "model.gguf");
  for (std::size_t size :
       {std::size_t{0}, std::size_t{3}, std::size_t{24}, std::size_t{500}, gguf.size() / 2, gguf.size() - 32}) {
    write_file(folder / "model.gguf", std::string_view(gguf).substr(0, size));
    CHECK_THROWS_AS(open_weights(folder / "model.gguf"), FormatError);
  }
}

TEST_CASE("what is no model says what to name instead", "[weights]") {
  const Folder folder("nothing");
  auto refusal = [](const fs::path& path) { return message_of([&] { open_weights(path); }); };
  CHECK_THAT(refusal(folder / "absent"), Contains("no such model; name a directory with config.json"));
  CHECK_THAT(refusal(folder.path()), Contains("has no config.json"));
  write_file(folder / "adapter_config.json", "{}");
  CHECK_THAT(refusal(folder.path()), Contains("is a LoRA adapter, not a model; name its base model"));
  folder.copy(golden_model("llama") / "config.json");
  CHECK_THAT(refusal(folder.path()), Contains("holds neither model.safetensors nor model.safetensors.index.json"));
  write_file(folder / "pytorch_model.bin", "x");
  CHECK_THAT(refusal(folder.path()), Contains("pickled weights are never read"));
  CHECK_THAT(refusal(folder / "pytorch_model.bin"), Contains("pickled weights are never read"));
  CHECK_THAT(refusal(golden_model("llama") / "model.safetensors"), Contains("name the directory that holds the model"));
  write_file(folder / "config.json", R"({"architectures": ["LlamaForCausalLM", "X"]})");
  CHECK_THAT(refusal(folder.path()), Contains("config.json: architectures must be a list with one name"));
  write_file(folder / "config.json", R"({"architectures": ["BertModel"]})");
  CHECK_THAT(refusal(folder.path()), Contains("config.json: architecture 'BertModel' is not supported; known: "));
}

namespace {

// A copy of the llama golden's GGUF with its metadata and tensors changed by `edit` before they are written.
std::string gguf_refusal(const std::function<void(std::map<std::string, GgufPair>&, std::vector<GgufTensor>&)>& edit) {
  const Folder folder("gguf");
  const GgufFile source(golden_model("llama") / "model.gguf");
  auto pairs = source.pairs();
  auto tensors = source.tensors();
  edit(pairs, tensors);
  {
    GgufWriter writer(folder / "model.gguf");
    for (const auto& [key, pair] : pairs) writer.pair(key, pair);
    for (const GgufTensor& tensor : tensors) writer.tensor(tensor.name, tensor.shape, tensor.type);
    for (const GgufTensor& tensor : tensors) {
      const GgmlTypeInfo& info = info_of(tensor.type);
      std::int64_t count = 1;
      for (std::int64_t dimension : tensor.shape) count *= dimension;
      const std::vector<std::byte> zeros(static_cast<std::size_t>(count / info.block * info.bytes));
      writer.data(tensor.name, zeros.data(), zeros.size());
    }
    writer.commit();
  }
  return message_of([&] { open_weights(folder / "model.gguf"); });
}

}  // namespace

TEST_CASE("GGUF files that are no base model are refused", "[weights][gguf][hostile]") {
  using Pairs = std::map<std::string, GgufPair>;
  using Tensors = std::vector<GgufTensor>;
  CHECK(gguf_refusal([](Pairs&, Tensors&) {}).empty());
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["general.type"].value = std::string("adapter"); }),
             Contains("general.type is 'adapter', a model was expected"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["general.architecture"].value = std::string("mamba"); }),
             Contains("GGUF architecture 'mamba' is not supported; known: "));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) {
               p["split.count"] = {GgufType::u16, false, std::uint64_t{3}};
             }),
             Contains("is one of 3 parts"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) {
               p["llama.rope.scaling.type"] = {GgufType::string, false, std::string("ntk")};
             }),
             Contains("llama.rope.scaling.type is 'ntk'; known: none, linear, yarn, longrope"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p.erase("llama.block_count"); }), Contains("llama.block_count"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["llama.block_count"].value = std::uint64_t{4000000000}; }),
             Contains("llama.block_count is 4000000000, must be between 1 and 1024"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["llama.block_count"].value = std::uint64_t{3}; }),
             Contains("tensor blk.2.attn_norm.weight is missing"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["llama.block_count"].value = std::uint64_t{1}; }),
             Contains("does not belong to a llama model"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["llama.feed_forward_length"].value = std::uint64_t{41}; }),
             Contains("tensor blk.0.ffn_gate.weight has shape [40, 32], the metadata asks for [41, 32]"));
  CHECK_THAT(gguf_refusal([](Pairs& p, Tensors&) { p["llama.attention.head_count"].value = std::uint64_t{0}; }),
             Contains("llama.attention.head_count is 0, must be between 1 and 4096"));
  CHECK_THAT(gguf_refusal([](Pairs&, Tensors& t) {
               t.push_back({"rope_freqs.weight", {3}, GgmlType::f32, 0, 12});
             }),
             Contains("tensor rope_freqs.weight must have 4 numbers, one for each rotated pair"));
}

TEST_CASE("frequency divisors that no Llama 3 has are kept as they are", "[weights][gguf]") {
  const Folder folder("divisors");
  const GgufFile source(golden_model("llama") / "model.gguf");
  {
    GgufWriter writer(folder / "model.gguf");
    for (const auto& [key, pair] : source.pairs()) writer.pair(key, pair);
    writer.tensor("rope_freqs.weight", {4}, GgmlType::f32);
    for (const GgufTensor& tensor : source.tensors()) writer.tensor(tensor.name, tensor.shape, tensor.type);
    const float divisors[4] = {1.0f, 3.5f, 1.25f, 2.0f};
    writer.data("rope_freqs.weight", divisors, sizeof divisors);
    for (const GgufTensor& tensor : source.tensors()) writer.data(tensor.name, source.data(tensor).data(), tensor.bytes);
    writer.commit();
  }
  const auto weights = open_weights(folder / "model.gguf");
  const RopeSpec& rope = weights->spec().rope;
  CHECK(rope.scaling == RopeScaling::longrope);
  CHECK(rope.short_factors == std::vector<double>{1, 3.5, 1.25, 2});
  CHECK(rope.long_factors == rope.short_factors);
  CHECK(rope.attention_factor == 1);
  CHECK(weights->hf_config()["rope_scaling"]["rope_type"] == "longrope");
}

TEST_CASE("blocks are decoded on all threads, also where no gradients are kept", "[weights][gguf]") {
  constexpr std::int64_t ffn = 8192;  // times a hidden size of 32 are 2^18 elements: each thread has some
  const Folder folder("blocks");
  const GgufFile source(golden_model("llama") / "model.gguf");
  {
    GgufWriter writer(folder / "model.gguf");
    auto pairs = source.pairs();
    pairs["llama.feed_forward_length"].value = std::uint64_t{ffn};
    for (const auto& [key, pair] : pairs) writer.pair(key, pair);
    const auto in_blocks = [](const GgufTensor& tensor) {
      return tensor.name.find(".ffn_") != std::string::npos && tensor.shape.size() == 2;
    };
    for (const GgufTensor& tensor : source.tensors()) {
      std::vector<std::int64_t> shape = tensor.shape;
      if (in_blocks(tensor)) shape[tensor.name.find("ffn_down") == std::string::npos ? 0 : 1] = ffn;
      writer.tensor(tensor.name, shape, in_blocks(tensor) ? GgmlType::q8_0 : tensor.type);
    }
    std::vector<float> values(32 * ffn);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(std::sin(static_cast<double>(i) * 0.7));
    std::vector<std::byte> blocks(values.size() / 32 * 34);
    quantize(GgmlType::q8_0, values.data(), static_cast<std::int64_t>(values.size()), blocks.data());
    for (const GgufTensor& tensor : source.tensors())
      if (in_blocks(tensor))
        writer.data(tensor.name, blocks.data(), blocks.size());
      else
        writer.data(tensor.name, source.data(tensor).data(), tensor.bytes);
    writer.commit();
  }
  const auto weights = open_weights(folder / "model.gguf");
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  REQUIRE(weights->load(name, at::kFloat).numel() == 1 << 18);
  const at::Tensor exact = weights->load(name, at::kFloat);
  const c10::InferenceMode no_autograd;  // of this thread alone
  CHECK(same_bits(weights->load(name, at::kBFloat16), exact.to(at::kBFloat16)));
}

TEST_CASE("the real SmolLM2 GGUF", "[weights][gguf][.real]") {
  const char* path = std::getenv("GRAFT_SMOLLM2_GGUF");
  if (path == nullptr) {
    WARN("GRAFT_SMOLLM2_GGUF is not set: the check was left out");
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto weights = open_weights(path);
  const ModelSpec& spec = weights->spec();
  CHECK((spec.vocab == 49152 && spec.hidden == 576 && spec.heads == 9 && spec.kv_heads == 3 && spec.layers.size() == 30));
  CHECK((spec.ffn == 1536 && spec.tied_head && spec.rope.theta == 100000 && spec.context == 8192 && spec.norm_eps == 1e-5));
  CHECK(spec.parameters() == 134515008);
  CHECK((weights->hf_config()["model_type"] == "llama" && weights->hf_config()["tie_word_embeddings"] == true));
  for (const WeightInfo& info : weights->weights()) {
    const at::Tensor values = weights->load(info.name, at::kBFloat16);
    INFO(info.name);
    CHECK(values.isfinite().all().item<bool>());
    CHECK(values.to(at::kFloat).abs().max().item<double>() > 0);
  }
  CHECK(weights->identity().size() == 64);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  WARN("opened, loaded as bf16 and hashed in " << seconds << " s");
}

}  // namespace graft::model
