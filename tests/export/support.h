// The golden bases and adapters of tests/golden/export, opened, and a directory that is gone after the test.
#pragma once

#include <ATen/ATen.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "core/error.h"
#include "export/exporter.h"
#include "lora/adapter.h"
#include "model/weights.h"
#include "tests/support/tiny_base.h"

namespace graft::testing {

namespace fs = std::filesystem;

inline fs::path golden(const std::string& family) { return fs::path(GRAFT_SOURCE_DIR) / "tests/golden/export" / family; }

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = (fs::temp_directory_path() / "graft-export-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw MachineError("cannot create a scratch directory");
    path_ = name;
  }
  ~ScratchDirectory() { fs::remove_all(path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// A golden family with its adapter.
struct GoldenCase {
  std::string family;
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<lora::AdapterSet> adapter;

  explicit GoldenCase(const std::string& name)
      : family(name), base(model::open_weights(golden(name) / "base")), adapter(lora::load_peft(golden(name) / "adapter")) {}
  exports::ExportRequest request(at::ScalarType storage = at::kBFloat16) const {
    return {*base, *adapter, storage, "Tiny", std::string(64, 'c')};
  }
};

// A base that (nearly) every format can carry: rows divide into groups of 128 and blocks of 256. Written at `directory` unless it
// is there.
struct AnyFormat {
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<lora::AdapterSet> adapter;

  explicit AnyFormat(const fs::path& directory) {
    if (!fs::exists(directory)) write_tiny_base(directory, {.vocab = 1700, .ffn = 256, .head_dim = 64, .hidden = 256});
    base = model::open_weights(directory);
    adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", 256, 256}}, false);
    adapter->parameters.fill_(0.01);
  }
  exports::ExportRequest request() const {
    return {.base = *base, .adapter = *adapter, .storage = at::kBFloat16, .name = "Tiny", .config_hash = "c", .corpus = "s"};
  }
  // All that carry it. Those that look at documents are written by the same code as those that do not.
  std::vector<std::string> formats() const {
    std::vector<std::string> names;
    for (const exports::Exporter* exporter : exports::all_formats())
      if (!exporter->calibrates && exporter->refusal(base->spec(), adapter->config).empty()) names.emplace_back(exporter->name);
    return names;
  }
};

inline exports::Artifact write(const std::string& format, const exports::ExportRequest& request, const fs::path& directory) {
  return exports::export_one(exports::find_exporter(format), request, directory).value();
}

// An artifact with what its writer noted, to be verified again after a change.
struct Noted {
  const exports::Exporter& exporter;
  fs::path path;
  exports::Fingerprints made = {};

  Noted(const std::string& format, const exports::ExportRequest& request, const fs::path& directory)
      : exporter(exports::find_exporter(format)), path(directory / ("noted-" + exports::artifact_name(exporter))) {
    if (exporter.extension.empty()) fs::create_directories(path);
    exporter.write(request, path, made);
  }
  double verify(const exports::ExportRequest& request) const { return exporter.verify(request, path, made); }
};

template <class E, class F>
std::string message_of(F&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace graft::testing
