#include <algorithm>

#include "cli/engine/inspect.h"
#include "core/error.h"
#include "export/manifest.h"

namespace graft::cli {

Json inspect_run(const fs::path& directory) {
  const Json run = read_json(directory / "run.json");
  Json found = {{"kind", "run"}, {"path", directory.string()}, {"finished", fs::exists(directory / "train.json")}};
  std::vector<std::string> checkpoints;
  if (fs::is_directory(directory / "checkpoints"))
    for (const auto& entry : fs::directory_iterator(directory / "checkpoints"))
      checkpoints.push_back(entry.path().filename().string());
  std::sort(checkpoints.begin(), checkpoints.end());
  found["checkpoints"] = checkpoints;
  found["identity"] = json_get<Json>(run, "identity", "run.json");
  found["heldout"] = json_get<Json>(run, "heldout", "run.json");
  if (fs::exists(directory / "train.json"))
    found["report"] = json_get<Json>(read_json(directory / "train.json"), "report", "train.json");
  if (fs::exists(directory / "scores.json")) {
    Json scores = Json::array();
    const Json book = read_json(directory / "scores.json");
    for (Json score : json_get<Json>(book, "scores", "scores.json")) {
      score.erase("key");
      score.erase("kl_to");
      scores.push_back(score);
    }
    found["scores"] = scores;
  }
  return found;
}

Json inspect_checkpoint(const fs::path& directory) {
  const Json state = read_json(directory / "state.json");
  return {{"kind", "checkpoint"},
          {"path", directory.string()},
          {"state", json_get<Json>(state, "state", "state.json")},
          {"identity", json_get<Json>(state, "identity", "state.json")},
          {"tensors", inspect_safetensors(directory / "adapter.safetensors")["tensors"]}};
}

Json inspect_exports(const fs::path& directory) {
  const exports::Manifest manifest(directory);
  Json list = Json::array();
  for (const exports::Artifact& artifact : manifest.artifacts()) {
    const bool intact = exports::changed_files(artifact).empty();
    list.push_back({{"format", artifact.format},
                    {"path", artifact.path.string()},
                    {"bytes", artifact.bytes},
                    {"intact", intact},
                    {"largest error", artifact.max_error},
                    {"sha256", artifact.sha256}});
  }
  return {{"kind", "exports"}, {"path", directory.string()}, {"artifacts", list}};
}

}  // namespace graft::cli
