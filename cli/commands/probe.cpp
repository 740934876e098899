#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command probe;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  return [&common] { return call_engine<decltype(graft_probe)>("graft_probe", common.context()); };
}

}  // namespace

const Command probe = {
    .name = "probe",
    .order = 7,
    .summary = "write requests for a server and the answers that the exported files give, to check a deployment by",
    .details = R"(Reads   the base model and every exported file of run_dir/export.dir.
Writes  probe/ there: requests.jsonl, one body for POST /v1/completions a line, and expected.jsonl, the most likely tokens with
        their log probabilities for each file and for the base. The prompts are built in: no text of yours is in them.

Examples
  graft probe -c run.yaml
  while read -r body; do curl -s http://server:8000/v1/completions -H 'Content-Type: application/json' -d "$body"; echo; done \
    < run/export/probe/requests.jsonl > answers.jsonl
  graft verify run/export --answers answers.jsonl --format hf)",
    .bind = bind,
};

}  // namespace graft::cli
