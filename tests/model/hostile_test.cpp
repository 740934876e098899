// Models whose parts are each well formed and lie: every value of every config and of GGUF metadata replaced, damaged weights,
// links out of the directory. Opening gives a model or says what is wrong, in little time and memory.
#include <sys/resource.h>

#include <cmath>
#include <cstdio>
#include <ctime>
#include <random>

#include "core/gguf.h"
#include "core/log.h"
#include "model/decoder.h"
#include "model/family.h"
#include "model/weights.h"
#include "tests/model/support.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::model {
namespace {

using namespace graft::testing;
using Catch::Matchers::Contains;

long peak_kib() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Warnings about keys that nobody knows, thousands of them here.
struct Quiet {
  Quiet() { log::set_level(log::Level::none); }
  ~Quiet() { log::set_level(log::Level::info); }
};

struct Outcome {
  int accepted = 0, refused = 0;
};

// Runs `open`; a refusal must be a UserError that names the file.
template <class Open>
void attempt(const Open& open, const std::string& where, Outcome& outcome) {
  const auto start = std::clock();
  try {
    open();
    ++outcome.accepted;
  } catch (const UserError& error) {
    const std::string message = error.what();
    if (message.find(where) == std::string::npos || message.size() > 2000) FAIL("a poor refusal: " << message);
    ++outcome.refused;
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  if (seconds > 1) FAIL("took " << seconds << " s");
}

const std::vector<Json> kLies = {nullptr,
                                 true,
                                 false,
                                 0,
                                 -1,
                                 1,
                                 2,
                                 3,
                                 7,
                                 65536,
                                 2147483648,
                                 INT64_MIN,
                                 INT64_MAX,
                                 UINT64_MAX,
                                 0.0,
                                 -0.5,
                                 1e-300,
                                 1e308,
                                 "",
                                 "x",
                                 Json::array(),
                                 {1},
                                 {-1},
                                 {"x"},
                                 Json::object(),
                                 {{"a", 1}},
                                 Json::array({nullptr})};

// Calls f with a copy of `whole` in which one value, at any depth, is another.
template <class F>
void replace_each(const Json& whole, const Json::json_pointer& at, const F& f) {
  const Json& here = whole.at(at);
  if (!at.empty()) {
    for (const Json& lie : kLies) {
      Json changed = whole;
      changed.at(at) = lie;
      f(changed, at.to_string() + " = " + lie.dump());
    }
  }
  if (here.is_object())
    for (const auto& [key, value] : here.items()) replace_each(whole, at / key, f);
  if (here.is_array())
    for (std::size_t i = 0; i < here.size() && i < 3; ++i) replace_each(whole, at / i, f);
}

void read_everything(const WeightSource& source) {
  for (const WeightInfo& info : source.weights()) source.load(info.name, at::kBFloat16);
}

}  // namespace

TEST_CASE("every value of every config.json replaced by every lie", "[hostile]") {
  const Quiet quiet;
  Outcome outcome;
  const long before = peak_kib();
  for (const std::string& name : golden_models()) {
    const Folder folder("lies");
    folder.copy(golden_model(name) / "model.safetensors");
    for (const char* style : {"config.json", "config_v4.json"}) {
      const Json config = read_json(golden_model(name) / style);
      replace_each(config, Json::json_pointer(), [&](const Json& changed, const std::string& lie) {
        INFO(name << " " << style << ": " << lie);
        // With the weights of the honest config: what is accepted fits them.
        attempt(
            [&] {
              const auto architectures = changed.find("architectures");
              if (architectures == changed.end() || !architectures->is_array() || architectures->size() != 1 ||
                  !architectures->front().is_string())
                throw UserError(folder.path().string());  // said by open_weights, see weights_test.cpp
              const std::string origin = (folder / "config.json").string();
              try {
                const ModelSpec spec = family_of_architecture(architectures->front().get<std::string>()).from_hf(changed, origin);
                check(spec, origin);
                spec.parameters();
              } catch (const UnsupportedError& error) {
                throw UserError(cat(origin, error.what()));  // open_weights adds the origin where it is missing
              }
            },
            folder.path().string(), outcome);
      });
    }
  }
  CHECK(outcome.refused > 5000);
  CHECK(outcome.accepted > 1000);  // e.g. another number of training tokens, a name, a use_cache
  CHECK(peak_kib() - before < 256 << 10);
}

TEST_CASE("a small config may not ask for a table that fills the memory", "[hostile]") {
  Json config = read_json(golden_model("qwen3_moe") / "config.json");
  config["num_hidden_layers"] = 1024;
  config[config.contains("num_experts") ? "num_experts" : "num_local_experts"] = 1024;
  config.erase("layer_types");
  const ModelSpec spec = family_of_architecture("Qwen3MoeForCausalLM").from_hf(config, "config.json");
  CHECK_THAT(message_of([&] { check(spec, "config.json"); }),
             Contains("config.json: num_hidden_layers times num_experts is 1048576, must be between 0 and 65536"));
}

TEST_CASE("a huge config.json or index is not read into memory", "[hostile]") {
  const Folder folder("huge");
  const auto refusal = [&] { return message_of([&] { open_weights(folder.path()); }); };
  write_file(folder / "config.json", "{\"a\": \"" + std::string(5 << 20, 'x') + "\"}");
  CHECK_THAT(refusal(), Contains("config.json has 5242889 bytes or more; at most 4194304 are accepted here"));
  std::string list = "[1";
  for (int i = 0; i < 300000; ++i) list += ",1";
  write_file(folder / "config.json", list + "]");
  CHECK_THAT(refusal(), Contains("config.json: too many values"));
  write_file(folder / "config.json", std::string(100000, '['));
  CHECK_THAT(refusal(), Contains("config.json: nested deeper than 64 levels"));
  fs::remove(folder / "config.json");
  folder.copy(golden_model("llama") / "config.json");
  write_file(folder / "model.safetensors.index.json", "{\"weight_map\":" + std::string(100000, '['));
  CHECK_THAT(refusal(), Contains("index.json: nested deeper than 64 levels"));
}

TEST_CASE("damaged weights are read or refused, never both", "[hostile]") {
  const long before = peak_kib();
  std::mt19937 random(8);
  Outcome outcome;
  const Folder folder("damaged");
  folder.copy(golden_model("qwen3") / "config.json");
  for (const char* file : {"model.safetensors", "model.gguf"}) {
    const std::string whole = read_file(golden_model("qwen3") / file);
    for (int i = 0; i < 2000; ++i) {
      std::string damaged = whole;
      for (int k = 0; k < 1 + i % 3; ++k) {
        const std::size_t at = random() % (i % 4 ? std::size_t{3000} : whole.size());
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
      }
      if (i % 5 == 0) damaged.resize(random() % damaged.size());
      fs::remove(folder / file);
      FILE* out = std::fopen((folder / file).c_str(), "wb");
      std::fwrite(damaged.data(), 1, damaged.size(), out);
      std::fclose(out);
      attempt([&] { read_everything(*open_weights(file[6] == 'g' ? folder / file : folder.path())); }, folder.path().string(),
              outcome);
    }
  }
  CHECK(outcome.refused > 2000);
  CHECK(outcome.accepted > 100);
  CHECK(peak_kib() - before < 256 << 10);
}

TEST_CASE("every value of GGUF metadata replaced by every lie", "[gguf][hostile]") {
  const std::vector<GgufPair> lies = {{GgufType::u32, false, std::uint64_t{0}},
                                      {GgufType::u32, false, std::uint64_t{1}},
                                      {GgufType::u32, false, std::uint64_t{7}},
                                      {GgufType::u64, false, UINT64_MAX},
                                      {GgufType::u64, false, std::uint64_t{1} << 40},
                                      {GgufType::i64, false, INT64_MIN},
                                      {GgufType::i32, false, std::int64_t{-1}},
                                      {GgufType::f32, false, 0.0},
                                      {GgufType::f64, false, 1e300},
                                      {GgufType::f32, false, std::nan("")},
                                      {GgufType::f64, false, -1e-300},
                                      {GgufType::boolean, false, true},
                                      {GgufType::string, false, std::string()},
                                      {GgufType::string, false, std::string("x")},
                                      {GgufType::i32, true, std::vector<std::int64_t>{}},
                                      {GgufType::f32, true, std::vector<double>{1, 2}},
                                      {GgufType::string, true, std::vector<std::string>{"x"}}};
  Outcome outcome;
  for (const std::string& name : golden_models()) {
    const fs::path golden = golden_model(name) / "model.gguf";
    if (!fs::exists(golden)) continue;
    const Folder folder("gguf-lies");
    const GgufFile source(golden);
    for (const auto& [key, honest] : source.pairs()) {
      for (std::size_t lie = 0; lie <= lies.size(); ++lie) {
        const fs::path path = folder / "model.gguf";
        {
          GgufWriter writer(path);
          for (const auto& [other, pair] : source.pairs())
            if (other != key)
              writer.pair(other, pair);
            else if (lie < lies.size())
              writer.pair(key, lies[lie]);  // the last round leaves it out
          for (const GgufTensor& tensor : source.tensors()) writer.tensor(tensor.name, tensor.shape, tensor.type);
          for (const GgufTensor& tensor : source.tensors()) writer.data(tensor.name, source.data(tensor).data(), tensor.bytes);
          writer.commit();
        }
        INFO(name << ": " << key << " = lie " << lie);
        attempt([&] { read_everything(*open_weights(path)); }, path.string(), outcome);
      }
    }
  }
  CHECK(outcome.refused > 1000);
  CHECK(outcome.accepted > 100);
}

TEST_CASE("links out of a model's directory are not followed", "[weights][hostile]") {
  for (const char* file : {"config.json", "model.safetensors"}) {
    const Folder folder("links");
    for (const char* other : {"config.json", "model.safetensors"})
      if (std::string(other) == file)
        fs::create_symlink(golden_model("llama") / other, folder / other);
      else
        folder.copy(golden_model("llama") / other);
    CHECK_THAT(message_of([&] { open_weights(folder.path()); }),
               Contains(cat("'", file, "' is a link to ")) && Contains("outside of this directory"));
  }
  // The cache of Hugging Face is made of links, to blobs beside the snapshots.
  const Folder cache("models--tiny");
  fs::create_directories(cache / "snapshots/0a1b");
  fs::create_directories(cache / "blobs");
  for (const char* file : {"config.json", "model.safetensors"}) {
    fs::copy(golden_model("llama") / file, cache / "blobs" / file);
    fs::create_symlink(fs::path("../../blobs") / file, cache / "snapshots/0a1b" / file);
  }
  CHECK(open_weights(cache / "snapshots/0a1b")->identity() == open_weights(golden_model("llama"))->identity());
}

}  // namespace graft::model
