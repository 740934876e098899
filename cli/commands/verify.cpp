#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command verify;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  auto options = std::make_shared<VerifyOptions>();
  app.add_option("DIRECTORY", options->directory, "export directory, with a manifest.json")->required();
  return [options, &common] {
    return call_engine<decltype(graft_verify)>("graft_verify", common.context_without_config(), *options);
  };
}

}  // namespace

const Command verify = {
    .name = "verify",
    .order = 7,
    .summary = "whether exported files are still what was written",
    .details =
        R"(Reads   every file of an export directory, and compares its size and sha256 with manifest.json. Files that the manifest
        does not know are named where they lie in an exported folder.
Writes  nothing. Ends with exit code 2 when a file differs, is missing or was added.

Examples
  graft verify quickstart/run/export
  graft verify /models/manual --json)",
    .bind = bind,
};

}  // namespace graft::cli
