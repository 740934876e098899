#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command run;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  auto options = std::make_shared<RunOptions>();
  auto* fresh = app.add_flag_callback(
      "--fresh", [options] { options->restart = Restart::fresh; },
      "train anew although the run directory holds a run; its checkpoints are removed");
  app.add_option("--runs", options->runs, "for a schedule: work in a directory in DIR, found or made, in place of run_dir")
      ->option_text("DIR")
      ->excludes(fresh);
  return [options, &common] { return call_engine<decltype(graft_run)>("graft_run", common.context(), *options); };
}

}  // namespace

const Command run = {
    .name = "run",
    .order = 1,
    .summary = "everything: prepare, train, score, export, score what was exported, report",
    .details = R"(Reads   the config, its documents and the base model.
Writes  corpus.dir (tokenized documents) and run_dir: checkpoints, metrics, adapter, export.dir, scores.json, report.html.
        A stage that is done and verified is skipped, so a second run takes seconds; one that was stopped continues.
--runs  In DIR, a run of this config and base that was stopped continues; where one is finished and no document is new since,
        nothing is trained; else a new one begins in DIR/<date and time, UTC>.

Examples
  graft run -c configs/minimal.yaml
  graft run -c configs/quickstart.yaml --set train.steps=200 --set run_dir=runs/long
  graft run -q -c handbook.yaml --runs runs     each night: trains when there is something new)",
    .bind = bind,
};

}  // namespace graft::cli
