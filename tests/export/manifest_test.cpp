// What a manifest, its signature and its ids hold fast: a bit flipped anywhere is found and named.
#include <sys/stat.h>

#include <cstdlib>
#include <random>

#include "core/file.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

namespace {

void flip_bit(const fs::path& file, std::mt19937& random) {
  std::string content = read_file(file);
  const std::size_t bit = std::uniform_int_distribution<std::size_t>(0, 8 * content.size() - 1)(random);
  content[bit / 8] = static_cast<char>(content[bit / 8] ^ 1 << bit % 8);
  write_file(file, content);
}

std::vector<std::string> problems_of(const fs::path& directory) {
  return exports::changed_files(exports::open_manifest(directory));
}

}  // namespace

TEST_CASE("a bit flipped in any file of any format is found, and the file is named", "[export][manifest]") {
  const ScratchDirectory scratch;
  const AnyFormat any(scratch / "base");
  const fs::path directory = scratch / "export";
  const std::vector<std::string> formats = any.formats();
  CHECK(formats.size() > 25);
  exports::export_all(formats, any.request(), directory);
  const exports::Manifest manifest(directory);
  REQUIRE(manifest.artifacts().size() == formats.size());
  CHECK(problems_of(directory).empty());

  std::mt19937 random(5);
  std::size_t files = 0;
  for (const exports::Artifact& artifact : manifest.artifacts())
    for (const exports::FileRecord& record : artifact.files) {
      const fs::path file = fs::is_directory(artifact.path) ? artifact.path / record.name : artifact.path;
      INFO(file);
      const std::string content = read_file(file);
      flip_bit(file, random);
      const auto changed = exports::changed_files(artifact);
      REQUIRE(changed.size() == 1);
      CHECK(changed[0].starts_with(file.string() + " has sha256 "));
      fs::remove(file);
      CHECK(exports::changed_files(artifact).at(0) == file.string() + " is missing");
      write_file(file, content);
      ++files;
    }
  CHECK(files > 2 * formats.size());
  CHECK(problems_of(directory).empty());
}

TEST_CASE("files that were added are named, wherever they lie", "[export][manifest]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  exports::export_all({"peft", "gguf-f16"}, golden_case.request(), scratch.path());
  CHECK(problems_of(scratch.path()).empty());
  const auto added = [&](const std::string& name) {
    const auto problems = problems_of(scratch.path());
    REQUIRE(problems.size() == 1);
    CHECK(problems[0] == (scratch / name).string() + " is not in the manifest");
    fs::remove_all(scratch / name);
  };
  write_file(scratch / "model.bin", "x");
  added("model.bin");
  write_file(scratch / "peft/modeling.py", "x");
  added("peft/modeling.py");
  fs::create_symlink("adapter_config.json", scratch / "peft/config.json");
  added("peft/config.json");
  fs::create_directory_symlink("/tmp", scratch / "peft/more");
  added("peft/more");
  REQUIRE(::mkfifo((scratch / "peft/pipe").c_str(), 0600) == 0);
  added("peft/pipe");
  fs::create_symlink("adapter_config.json", scratch / "peft/config.json");
  CHECK(!exports::export_all({"peft"}, golden_case.request(), scratch.path())[0].reused);
  CHECK(problems_of(scratch.path()).empty());
  fs::remove(scratch / ".lock");
  write_file(scratch / ".lock", std::string(65, 'x'));
  added(".lock");
  fs::create_symlink("manifest.json", scratch / ".lock");
  added(".lock");
}

TEST_CASE("the folder for servers is held as it was recorded, one that was not there too", "[export][manifest]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  const auto record = [&] { exports::Manifest(scratch.path()).record_serving(); };
  const std::string hint = "; edit copies of these files, `graft export` writes them anew";
  record();
  CHECK(!fs::exists(scratch / "manifest.json"));  // nothing to record, and nothing to record it in
  exports::export_all({"peft"}, golden_case.request(), scratch.path());
  fs::create_directory(scratch / "serving");
  write_file(scratch / "serving/a", "a");
  CHECK(problems_of(scratch.path()).empty());  // as the manifest of an older program
  record();
  CHECK(problems_of(scratch.path()).empty());
  write_file(scratch / "serving/b", "b");
  CHECK(problems_of(scratch.path()) ==
        std::vector<std::string>{(scratch / "serving/b").string() + " is not in the manifest" + hint});
  fs::remove_all(scratch / "serving");
  CHECK(problems_of(scratch.path()) == std::vector<std::string>{(scratch / "serving").string() + " is missing" + hint});
  record();
  CHECK(problems_of(scratch.path()).empty());
  fs::create_directory(scratch / "serving");
  write_file(scratch / "serving/a", "a");
  CHECK(problems_of(scratch.path()) ==
        std::vector<std::string>{(scratch / "serving/a").string() + " is not in the manifest" + hint});
}

TEST_CASE("an id names the content", "[export][manifest]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  auto request = golden_case.request();
  request.name = "our Handbook/2026";
  request.corpus = std::string(64, '5');
  request.started_from = std::string(64, '6');
  const auto artifacts = exports::export_all({"gguf-q8_0"}, request, scratch.path());
  CHECK(artifacts[0].id() == "our-Handbook-2026-gguf-q8_0-" + sha256_file(scratch / "gguf-q8_0.gguf").substr(0, 12));
  Json manifest = read_json(scratch / "manifest.json");
  CHECK(manifest["artifacts"][0]["id"] == artifacts[0].id());
  CHECK(manifest["artifacts"][0]["corpus"] == request.corpus);
  CHECK(manifest["artifacts"][0]["started_from"] == request.started_from);
  CHECK(exports::export_all({"gguf-q8_0"}, request, scratch.path())[0].reused);
  manifest["artifacts"][0]["id"] = "our-Handbook-2026-gguf-q8_0-000000000000";
  write_file(scratch / "manifest.json", manifest.dump());
  CHECK(message_of<FormatError>([&] {
          exports::Manifest read(scratch.path());
        }).find("is not that of its artifact, 'our-Handbook") != std::string::npos);
}

TEST_CASE("a manifest with control characters is refused, for what it says is printed", "[export][manifest]") {
  const ScratchDirectory scratch;
  const Json artifact = {{"format", "\x1b]0;x"}};
  write_file(scratch / "manifest.json", Json{{"manifest", 1}, {"artifacts", {artifact}}}.dump());
  CHECK(message_of<FormatError>([&] { exports::Manifest{scratch.path()}; }) ==
        (scratch / "manifest.json").string() + ": holds the control character 27, which no manifest has");
}

TEST_CASE("a signed manifest cannot be changed, replaced or outlived", "[export][manifest]") {
  const GoldenCase golden_case("llama"), other("mistral");
  const ScratchDirectory scratch;
  const fs::path directory = scratch / "export";
  for (const char* name : {"own", "stranger"}) {
    const std::string key = (scratch / name).string();
    REQUIRE(std::system(("openssl genpkey -algorithm ed25519 -out " + key + ".pem 2>&1 && chmod 600 " + key +
                         ".pem && openssl pkey -in " + key + ".pem -pubout -out " + key + ".pub")
                            .c_str()) == 0);
  }
  const auto check = [&](const char* key = "own.pub") {
    return message_of<DataError>([&] { exports::Manifest(directory).check_signature(scratch / key); });
  };
  exports::export_all({"peft", "gguf-f16"}, golden_case.request(), directory);
  CHECK(check() == (directory / "manifest.json").string() + " is not signed; `graft sign` signs it");
  exports::sign_manifest(directory, scratch / "own.pem");
  CHECK(check() == "nothing was thrown");
  CHECK(check("stranger.pub").find("is not what the owner of") != std::string::npos);
  CHECK(problems_of(directory).empty());
  const std::string signature = read_file(directory / "manifest.json.sig"), text = read_file(directory / "manifest.json");
  CHECK(
      std::system(("cd " + directory.string() + " && openssl pkeyutl -verify -pubin -inkey ../own.pub -rawin -in manifest.json" +
                   " -sigfile manifest.json.sig > /dev/null")
                      .c_str()) == 0);

  SECTION("a changed manifest") {  // a change that reads as well as before
    const std::string hash = golden_case.base->identity();
    std::string changed = text;
    changed[text.find(hash)] = text[text.find(hash)] == '0' ? '1' : '0';
    write_file(directory / "manifest.json", changed);
    CHECK(problems_of(directory).empty());
    CHECK(check().find("is not what the owner of") != std::string::npos);
  }
  SECTION("a changed signature") {
    std::mt19937 random(7);
    for (int i = 0; i < 20; ++i) {
      flip_bit(directory / "manifest.json.sig", random);
      CHECK(check().find("is not what the owner of") != std::string::npos);
      write_file(directory / "manifest.json.sig", signature);
    }
  }
  SECTION("the manifest and signature of another run") {
    exports::export_all({"peft", "gguf-f16"}, other.request(), scratch / "other");
    exports::sign_manifest(scratch / "other", scratch / "own.pem");
    for (const char* name : {"manifest.json", "manifest.json.sig"})
      fs::copy_file(scratch / "other" / name, directory / name, fs::copy_options::overwrite_existing);
    CHECK(check() == "nothing was thrown");
    const auto problems = problems_of(directory);
    REQUIRE(problems.size() >= 2);
    CHECK(exports::joined(problems).find((directory / "gguf-f16.gguf").string()) != std::string::npos);
    CHECK(exports::joined(problems).find((directory / "peft/adapter_model.safetensors").string()) != std::string::npos);
  }
  SECTION("an export after it") {
    exports::export_all({"gguf-lora"}, golden_case.request(), directory);
    CHECK(!fs::exists(directory / "manifest.json.sig"));
    exports::sign_manifest(directory, scratch / "own.pem");
    CHECK(check() == "nothing was thrown");
  }
}
