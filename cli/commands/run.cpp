#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command run;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  auto fresh = std::make_shared<bool>(false);
  app.add_flag("--fresh", *fresh, "train anew although the run directory holds a run; its checkpoints are removed");
  return [fresh, &common] {
    const Context context = common.context();
    return call_engine<decltype(graft_run)>("graft_run", context, *fresh ? Restart::fresh : Restart::automatic);
  };
}

}  // namespace

const Command run = {
    .name = "run",
    .order = 1,
    .summary = "everything: prepare, train, score, export, score what was exported, report",
    .details = R"(Reads   the config, its documents and the base model.
Writes  corpus.dir (tokenized documents) and run_dir: checkpoints, metrics, adapter, export.dir, scores.json, report.html.
        A stage that is done and verified is skipped, so a second run takes seconds; one that was stopped continues.

Examples
  graft run -c configs/minimal.yaml
  graft run -c configs/quickstart.yaml --set train.steps=200 --set run_dir=runs/long)",
    .bind = bind,
};

}  // namespace graft::cli
