#include <iostream>

#include "cli/engine.h"
#include "cli/engine/output.h"
#include "core/error.h"
#include "core/progress.h"
#include "export/manifest.h"

int graft::cli::graft_verify(const Context& context, const VerifyOptions& options) {
  const fs::path directory = options.directory;
  if (!fs::is_regular_file(directory / "manifest.json"))
    throw UserError(cat(directory.string(), ": has no manifest.json; name the directory that `graft export` wrote"));
  const exports::Manifest manifest(directory);
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows = {{"format", "files", "size", "state"}};
  std::string problems;
  for (const exports::Artifact& artifact : manifest.artifacts()) {
    const std::vector<std::string> changed = exports::changed_files(artifact);
    for (const std::string& problem : changed) problems += cat(problems.empty() ? "" : "\n", problem);
    list.push_back({{"format", artifact.format}, {"path", artifact.path.string()}, {"problems", changed}});
    rows.push_back({artifact.format, std::to_string(artifact.files.size()), human_bytes(static_cast<double>(artifact.bytes)),
                    changed.empty() ? "as written" : "differs"});
  }
  if (context.json)
    print_json({{"directory", directory.string()}, {"intact", problems.empty()}, {"artifacts", list}});
  else
    std::cout << columns(rows);
  if (!problems.empty()) throw DataError(problems);
  return kDone;
}
