// Where the golden models lie (scripts/make_golden_models.py).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace graft::testing {

inline std::filesystem::path golden_model(const std::string& name) {
  return std::filesystem::path(GRAFT_SOURCE_DIR) / "tests/golden/models" / name;
}

inline std::vector<std::string> golden_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_model("")))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  return names;
}

}  // namespace graft::testing
