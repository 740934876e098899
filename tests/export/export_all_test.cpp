// A run's exports: skipping what is done, the manifest, stopping.
#include <algorithm>
#include <csignal>

#include "core/file.h"
#include "core/gguf.h"
#include "core/stop.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

namespace {

const std::vector<std::string> kFormats = {"peft", "hf", "gguf-q8_0", "gguf-lora"};

std::vector<bool> reused(const std::vector<exports::Artifact>& artifacts) {
  std::vector<bool> flags;
  for (const exports::Artifact& artifact : artifacts) flags.push_back(artifact.reused);
  return flags;
}

}  // namespace

TEST_CASE("what is complete is kept, what changed is written again", "[export][all]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  const fs::path directory = scratch / "export";
  const auto run = [&](const exports::ExportRequest& request) { return exports::export_all(kFormats, request, directory); };
  const auto first = run(golden_case.request());
  CHECK(reused(first) == std::vector<bool>{false, false, false, false});
  CHECK(reused(run(golden_case.request())) == std::vector<bool>{true, true, true, true});

  SECTION("a damaged file") {
    write_file(directory / "gguf-q8_0.gguf", "damaged");
    write_file(directory / "hf/stray.txt", "not ours");
    CHECK(reused(run(golden_case.request())) == std::vector<bool>{true, false, false, true});
    CHECK(!fs::exists(directory / "hf/stray.txt"));
    CHECK(sha256_file(directory / "gguf-q8_0.gguf") == first[2].sha256);  // equal sources, equal bytes
  }
  SECTION("another adapter") {
    golden_case.adapter->adapters[0]->low_rank.b.add_(0.5);
    CHECK(reused(run(golden_case.request())) == std::vector<bool>{false, false, false, false});
  }
  SECTION("another dtype of the run") {
    CHECK(reused(run(golden_case.request(at::kFloat))) == std::vector<bool>{false, false, false, false});
  }
  SECTION("another config, which says nothing of these files") {
    exports::ExportRequest request = golden_case.request();
    request.config_hash = std::string(64, 'd');
    CHECK(reused(run(request)) == std::vector<bool>{true, true, true, true});
    const Json manifest = read_json(directory / "manifest.json");
    for (const Json& artifact : manifest["artifacts"]) CHECK(artifact["config"] == std::string(64, 'c'));
  }
  SECTION("another name, and another corpus") {
    exports::ExportRequest request = golden_case.request();
    request.name = "Other";
    CHECK(reused(run(request)) == std::vector<bool>{false, false, false, false});
    request.corpus = "s";
    CHECK(reused(run(request)) == std::vector<bool>{false, false, false, false});
  }
  SECTION("the base has moved: a merged model does not name it, an adapter does") {
    fs::copy(golden("llama") / "base", scratch / "moved");
    const auto moved = model::open_weights(scratch / "moved");
    CHECK(reused(run({*moved, *golden_case.adapter, at::kBFloat16, "Tiny", std::string(64, 'c')})) ==
          std::vector<bool>{false, true, true, false});
    CHECK(read_json(directory / "peft/adapter_config.json")["base_model_name_or_path"] == (scratch / "moved").string());
  }
  SECTION("what lies beside the weights of the base") {
    fs::copy(golden("llama") / "base", scratch / "base");
    const auto again = [&](const std::vector<std::int32_t>& stop_ids = {}) {
      const auto base = model::open_weights(scratch / "base");
      exports::ExportRequest request = {*base, *golden_case.adapter, at::kBFloat16, "Tiny", ""};
      request.stop_ids = stop_ids;
      return reused(exports::export_all({"hf", "gguf-q8_0"}, request, directory));
    };
    const std::vector<bool> kept = {true, true}, written = {false, false};
    CHECK(again() == kept);
    for (const char* name :
         {"config.json", "generation_config.json", "chat_template.jinja", "tokenizer_config.json", "LICENSE"}) {
      INFO(name);
      const fs::path file = scratch / "base" / name;
      write_file(file, (fs::exists(file) ? read_file(file) : "") + "\n");
      CHECK(again() == written);
      CHECK(again() == kept);
    }
    CHECK(again({2}) == written);
    Json manifest = read_json(directory / "manifest.json");  // as an older program left it
    for (Json& artifact : manifest["artifacts"]) artifact.erase("companions");
    write_file(directory / "manifest.json", manifest.dump());
    CHECK(again({2}) == written);
  }
  SECTION("leftovers of a killed export") {
    fs::create_directories(directory / ".hf.tmp-1-0");
    run(golden_case.request());
    CHECK(!fs::exists(directory / ".hf.tmp-1-0"));
  }
}

TEST_CASE("what the gate does not let through leaves what was there", "[export][all]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  const fs::path directory = scratch / "export";
  int asked = 0;
  const auto run = [&](bool passes, const Json& found = {}) {
    asked = 0;
    return exports::export_all(kFormats, golden_case.request(), directory, [&](exports::Artifact& artifact) {
      ++asked;
      const fs::path name = directory / exports::artifact_name(exports::find_exporter(artifact.format));
      CHECK(artifact.reused == (artifact.path == name));
      CHECK(exports::changed_files(artifact).empty());  // whole, where it lies
      if (!artifact.reused && fs::exists(name))
        CHECK(exports::Manifest(directory).find(artifact.format)->sha256 != artifact.sha256);
      artifact.heldout = found;
      return passes;
    });
  };
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(directory)) all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  };
  CHECK(run(false).empty());
  CHECK(names() == std::vector<std::string>{".lock"});
  CHECK(run(true, {{"gate", "passed"}}).size() == kFormats.size());
  CHECK(asked == static_cast<int>(kFormats.size()));
  const std::string manifest = read_file(directory / "manifest.json");
  for (const Json& artifact : parse_json(manifest, "manifest")["artifacts"]) CHECK(artifact["heldout"]["gate"] == "passed");
  const auto all = names();

  SECTION("a later adapter's") {
    golden_case.adapter->adapters[0]->low_rank.b.add_(0.5);
    CHECK(run(false).empty());
    CHECK(names() == all);
    CHECK(read_file(directory / "manifest.json") == manifest);
    const exports::Manifest kept(directory);
    for (const exports::Artifact& artifact : kept.artifacts()) CHECK(exports::changed_files(artifact).empty());
    CHECK(reused(run(true)) == std::vector<bool>{false, false, false, false});
  }
  SECTION("the very same, which is asked more of") {
    CHECK(run(false).empty());
    CHECK(names() == std::vector<std::string>{".lock", "manifest.json"});
    CHECK(exports::Manifest(directory).artifacts().empty());
  }
  SECTION("what is found of it again is written when it has changed") {
    write_file(directory / "manifest.json.sig", "by hand");
    CHECK(reused(run(true, {{"gate", "passed"}})) == std::vector<bool>{true, true, true, true});
    CHECK(fs::exists(directory / "manifest.json.sig"));
    CHECK(reused(run(true, {{"gate", "off"}})) == std::vector<bool>{true, true, true, true});
    CHECK(exports::Manifest(directory).find("hf")->heldout["gate"] == "off");
  }
}

TEST_CASE("the metadata of a GGUF base is part of what an export is made from", "[export][all]") {
  const ScratchDirectory scratch;
  const auto adapter = lora::load_peft(golden("llama") / "adapter");
  const auto run = [&](const std::string& chat_template) -> bool {
    {
      const GgufFile plain(golden("llama") / "f16.gguf");
      GgufWriter writer(scratch / "base.gguf");
      for (const auto& [key, pair] : plain.pairs())
        if (key != "tokenizer.chat_template") writer.pair(key, pair);
      writer.string("tokenizer.chat_template", chat_template);
      for (const GgufTensor& tensor : plain.tensors()) writer.tensor(tensor.name, tensor.shape, tensor.type);
      for (const GgufTensor& tensor : plain.tensors()) writer.data(tensor.name, plain.data(tensor).data(), tensor.bytes);
      writer.commit();
    }
    const auto base = model::open_weights(scratch / "base.gguf");
    return reused(exports::export_all({"gguf-q8_0"}, {*base, *adapter, at::kFloat, "Tiny", ""}, scratch / "export"))[0];
  };
  CHECK(!run("a"));
  CHECK(run("a"));
  CHECK(!run("b"));
}

TEST_CASE("the manifest traces every file", "[export][manifest]") {
  const GoldenCase golden_case("qwen3");
  const ScratchDirectory scratch;
  const auto artifacts = exports::export_all({"peft", "gguf-f16"}, golden_case.request(), scratch.path());
  const Json manifest = read_json(scratch / "manifest.json");
  REQUIRE(manifest["artifacts"].size() == 2);
  const Json& peft = manifest["artifacts"][0];
  CHECK(peft["format"] == "peft");
  CHECK(peft["path"] == "peft");
  CHECK(peft["base"] == golden_case.base->identity());
  CHECK(peft["adapter"] == exports::adapter_hash(*golden_case.adapter));
  CHECK(peft["storage"] == "bf16");
  CHECK(peft["program"] == "graft " GRAFT_VERSION);
  CHECK(peft["files"][1]["name"] == "adapter_model.safetensors");
  CHECK(peft["files"][1]["sha256"] == sha256_file(scratch / "peft/adapter_model.safetensors"));
  const Json& gguf = manifest["artifacts"][1];
  CHECK(gguf["sha256"] == sha256_file(scratch / "gguf-f16.gguf"));
  CHECK(gguf["bytes"] == fs::file_size(scratch / "gguf-f16.gguf"));
  CHECK(artifacts[1].json() == gguf);
}

TEST_CASE("a hostile manifest is refused", "[export][manifest]") {
  const ScratchDirectory scratch;
  const auto refused = [&](const std::string& text) {
    write_file(scratch / "manifest.json", text);
    return message_of<UserError>([&] { exports::Manifest manifest(scratch.path()); });
  };
  const std::string tail =
      R"("model":"","base":"","adapter":"","storage":"","config":"","program":"","bytes":1,"sha256":"","max_error":0,)";
  CHECK(refused(R"({"manifest":1,"artifacts":[{"format":"x","path":"../x",)" + tail + R"("files":[]}]})").find("../x") !=
        std::string::npos);
  CHECK(refused(R"({"manifest":1,"artifacts":[{"format":"x","path":"x",)" + tail +
                R"("files":[{"name":"/etc/passwd","bytes":1,"sha256":""}]}]})")
            .find("/etc/passwd") != std::string::npos);
  CHECK(refused(R"({"manifest":2,"artifacts":[]})").find("version 2 of the manifest, this program knows 1") != std::string::npos);
  CHECK(refused(R"({"manifest":1})").find("'artifacts' is missing") != std::string::npos);
  CHECK(refused("{").find("manifest.json: byte") != std::string::npos);
}

TEST_CASE("an export directory in use is refused", "[export][all]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  const DirectoryLock lock(scratch.path());
  CHECK(message_of<Error>([&] {
          exports::export_all({"peft"}, golden_case.request(), scratch.path());
        }).find("is in use by process") != std::string::npos);
}
