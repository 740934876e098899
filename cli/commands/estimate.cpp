#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command estimate;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  return [&common] { return call_engine<decltype(graft_estimate)>("graft_estimate", common.context()); };
}

}  // namespace

const Command estimate = {
    .name = "estimate",
    .order = 9,
    .summary = "memory and time that a config will need, without loading any weights",
    .details = R"(Reads   the config and the header of the base model; the number of tokens in corpus.dir, or the size of
        the documents when nothing is prepared yet. No document is opened.
Writes  nothing. Ends with exit code 4 when the run does not fit into this machine's memory.

Example
  graft estimate -c configs/minimal.yaml --set train.length=4096)",
    .bind = bind,
};

}  // namespace graft::cli
