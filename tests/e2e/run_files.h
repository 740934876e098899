// What a training run leaves that must not depend on how often it was stopped.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "tests/support/workshop.h"

namespace graft::testing {

// adapter_model.safetensors, loss.jsonl, and metrics.jsonl without what the clock says.
inline std::map<std::string, std::string> lasting(const fs::path& run) {
  std::map<std::string, std::string> files;
  for (const char* name : {"adapter/adapter_model.safetensors", "adapter/adapter_config.json", "loss.jsonl"})
    files[name] = fs::exists(run / name) ? read_file(run / name) : "missing";
  std::string metrics;
  for (const std::string& line : read_lines(run / "metrics.jsonl")) {
    Json record = parse_json(line, "metrics.jsonl");
    for (const char* key : {"time", "seconds", "tokens_per_second"}) record.erase(key);
    metrics += record.dump() + "\n";
  }
  files["metrics.jsonl"] = metrics;
  return files;
}

// Names of what killed writers left, anywhere below `directory`.
inline std::vector<std::string> leftovers(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.find(".tmp-") != std::string::npos || name.find(".old-") != std::string::npos || name.starts_with("removed-") ||
        name.find("staging") != std::string::npos)
      names.push_back(entry.path().string());
  }
  return names;
}

}  // namespace graft::testing
