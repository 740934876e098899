// The shape of the source tree, read from the tree itself: who may include whom, what every file has, what none may hold.
#include <algorithm>
#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

const fs::path kRoot = GRAFT_SOURCE_DIR;

std::vector<std::string> lines_of(const fs::path& file) {
  std::istringstream in(read_file(file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Files below a folder of the tree, as paths from the root.
std::vector<std::string> files_below(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder))
    if (entry.is_regular_file()) files.push_back(entry.path().lexically_relative(kRoot).string());
  std::sort(files.begin(), files.end());
  return files;
}

bool is_source(const std::string& file) {
  const auto ending = fs::path(file).extension();
  return ending == ".cpp" || ending == ".h" || ending == ".c" || ending == ".cu" || ending == ".cuh";
}

// Module -> modules that it may include: those it links in CMakeLists.txt and what they link.
std::map<std::string, std::set<std::string>> arrows() {
  std::map<std::string, std::set<std::string>> may;
  const std::regex declaration("graft_(module|program)\\((\\w+)([^)]*)\\)");
  for (const std::string& line : lines_of(kRoot / "CMakeLists.txt")) {
    std::smatch match;
    if (!std::regex_search(line, match, declaration)) continue;
    std::set<std::string>& own = may[match[2]];
    std::istringstream words(match[3]);
    bool links = false;
    for (std::string word; words >> word;) {
      if (std::isupper(static_cast<unsigned char>(word[0])))
        links = word == "LINKS";
      else if (links) {
        own.insert(word);
        own.insert(may.at(word).begin(), may.at(word).end());
      }
    }
    own.insert(match[2]);
  }
  return may;
}

// Every file that a person wrote; goldens are written by scripts.
std::vector<std::string> written_files() {
  std::vector<std::string> files;
  std::vector<std::string> folders = {"bench", "cmake", "configs", "docs", "scripts", "tests"};
  for (const auto& [module, allowed] : arrows()) folders.push_back(module);
  for (const std::string& folder : folders)
    for (const std::string& file : files_below(folder))
      if (!file.starts_with("tests/golden/") && file.find("__pycache__") == std::string::npos && !file.ends_with(".png"))
        files.push_back(file);
  for (const auto& entry : fs::directory_iterator(kRoot)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && (name.ends_with(".md") || name.starts_with("CMake"))) files.push_back(name);
  }
  return files;
}

}  // namespace

TEST_CASE("modules include only those below them", "[tree]") {
  const auto may = arrows();
  REQUIRE(may.size() >= 9);
  CHECK(may.at("core") == std::set<std::string>{"core"});
  CHECK(may.at("data") == std::set<std::string>{"core", "data"});
  CHECK(may.at("kernels") == std::set<std::string>{"core", "kernels"});
  CHECK_FALSE(may.at("export").contains("train"));
  CHECK_FALSE(may.at("train").contains("export"));
  const std::regex include("^\\s*#\\s*include\\s*\"([^\"]+)\"");
  std::size_t seen = 0;
  for (const auto& [module, allowed] : may) {
    for (const std::string& file : files_below(module)) {
      if (!is_source(file)) continue;
      for (const std::string& line : lines_of(kRoot / file)) {
        std::smatch match;
        if (!std::regex_search(line, match, include)) continue;
        const std::string path = match[1], from = path.substr(0, path.find('/'));
        INFO(file << " includes " << path);
        const bool support = from == "tests" && (file.ends_with("_test.cpp") || file.ends_with("_bench.cpp"));
        CHECK((allowed.contains(from) || support));
        CHECK((fs::exists(kRoot / path) || support));
        ++seen;
      }
    }
  }
  CHECK(seen > 300);
}

TEST_CASE("core, data and the front of the program know nothing of LibTorch", "[tree]") {
  const std::regex torch("^\\s*#\\s*include\\s*<(ATen|c10|torch|caffe2)/");
  const auto uses_torch = [&](const std::string& file) {
    const auto lines = lines_of(kRoot / file);
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) { return std::regex_search(line, torch); });
  };
  for (const char* module : {"core", "data", "tests/core", "tests/data", "cli"}) {
    for (const std::string& file : files_below(module)) {
      if (!is_source(file) || file.starts_with("cli/engine")) continue;
      INFO(file);
      CHECK_FALSE(uses_torch(file));
    }
  }
  CHECK(uses_torch("model/decoder.h"));
  // The headers of the others stop at the tensor class: parsing all of ATen takes ten times as long.
  for (const char* module : {"kernels", "model", "lora", "eval", "train", "export"}) {
    for (const std::string& file : files_below(module)) {
      if (!file.ends_with(".h")) continue;
      for (const std::string& line : lines_of(kRoot / file)) {
        INFO(file << ": " << line);
        CHECK((!std::regex_search(line, torch) || line == "#include <ATen/core/Tensor.h>" ||
               line == "#include <c10/core/ScalarType.h>" || line == "#include <c10/util/BFloat16.h>"));
      }
    }
  }
}

TEST_CASE("every header says what it is, every kernel has its files", "[tree]") {
  std::size_t headers = 0;
  for (const std::string& file : written_files()) {
    if (!file.ends_with(".h") && !file.ends_with(".cuh")) continue;
    const auto lines = lines_of(kRoot / file);
    INFO(file);
    REQUIRE(lines.size() > 2);
    CHECK(lines[0].starts_with("// "));
    CHECK(lines[0].size() > 20);
    CHECK(std::find(lines.begin(), lines.end(), "#pragma once") != lines.end());
    ++headers;
  }
  CHECK(headers > 80);
  std::size_t kernels = 0;
  for (const auto& entry : fs::directory_iterator(kRoot / "kernels")) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename().string();
    if (name == "cpu" || name == "cuda") continue;  // what the ops share
    INFO("kernels/" << name);
    for (const char* suffix : {".h", ".cpp"}) CHECK(fs::exists(entry.path() / (name + suffix)));
    CHECK((fs::exists(entry.path() / (name + "_test.cpp")) || fs::exists(entry.path() / (name + "_simt_test.cpp"))));
    ++kernels;
  }
  CHECK(kernels >= 7);
  std::size_t cuda = 0;
  for (const std::string& file : files_below("kernels")) {
    if (!file.ends_with("_cuda.cu")) continue;
    std::string stem = file.substr(0, file.size() - std::strlen("_cuda.cu"));
    INFO(file);
    // attention/attention_any: another kernel of the same op, with its contract and its tests.
    const fs::path folder = fs::path(stem).parent_path(), op = folder / folder.filename();
    if (stem.starts_with(op.string() + "_")) stem = op.string();
    CHECK((fs::exists(kRoot / (stem + "_cuda.h")) || fs::exists(kRoot / (stem + ".h"))));
    CHECK(fs::exists(kRoot / (stem + "_simt_test.cpp")));
    ++cuda;
  }
  CHECK(cuda >= 8);
}

TEST_CASE("files are short, finished, and speak of no machine", "[tree]") {
  std::size_t files = 0;
  // Pieced together, so that this file does not hold them.
  const std::vector<std::string> unfinished = {
      "TO"
      "DO",
      "FIX"
      "ME",
      "X"
      "XX"};
  const std::vector<std::string> machines = {
      "/wo"
      "rk/",
      "/home"
      "/",
      "py"
      "pi.org",
      "files.python"
      "hosted",
      "deb."
      "debian.org",
      "hugging"
      "face.co"};
  for (const std::string& file : written_files()) {
    const auto lines = lines_of(kRoot / file);
    INFO(file);
    CHECK(lines.size() <= 600);
    for (std::size_t i = 0; i < lines.size(); ++i) {
      for (const std::string& word : unfinished) {
        const std::size_t at = lines[i].find(word);
        INFO("line " << i + 1);
        const bool within =
            at != std::string::npos &&
            ((at > 0 && std::isupper(static_cast<unsigned char>(lines[i][at - 1]))) ||
             (at + word.size() < lines[i].size() && std::isupper(static_cast<unsigned char>(lines[i][at + word.size()]))));
        CHECK((at == std::string::npos || within || lines[i].find("XXXXXX") != std::string::npos));
      }
      for (const std::string& word : machines) {
        INFO("line " << i + 1 << ": " << word);
        CHECK(lines[i].find(word) == std::string::npos);
      }
    }
    ++files;
  }
  CHECK(files > 250);
}
