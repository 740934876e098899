#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command doctor;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  return [&common] {
    const bool has_config = !common.config.empty();
    const Context context = has_config ? common.context() : common.context_without_config();
    return call_engine<decltype(graft_doctor)>("graft_doctor", context, has_config);
  };
}

}  // namespace

const Command doctor = {
    .name = "doctor",
    .order = 11,
    .summary = "what this machine offers, and whether a config will work on it",
    .details = R"(Reads   processor, memory, disk and libraries; with a config also its base, sources, corpus and export formats.
Writes  nothing. Ends with exit code 2 when something in the config will not work.

Examples
  graft doctor
  graft doctor -c configs/minimal.yaml)",
    .bind = bind,
};

}  // namespace graft::cli
