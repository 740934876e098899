#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command train;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  auto restart = std::make_shared<Restart>(Restart::automatic);
  auto* fresh = app.add_flag_callback(
      "--fresh", [restart] { *restart = Restart::fresh; }, "begin anew; the run's checkpoints are removed");
  app.add_flag_callback(
         "--resume", [restart] { *restart = Restart::resume; }, "refuse to begin anew when there is no checkpoint to continue")
      ->excludes(fresh);
  return [restart, &common] { return call_engine<decltype(graft_train)>("graft_train", common.context(), *restart); };
}

}  // namespace

const Command train = {
    .name = "train",
    .order = 3,
    .summary = "train the adapter on the prepared corpus",
    .details = R"(Reads   corpus.dir and the base model.
Writes  run_dir: checkpoints, metrics (JSON lines and TensorBoard events) and the adapter. SIGTERM or Ctrl-C writes a
        checkpoint and ends with exit code 143 or 130; the same command continues from there and ends with the same
        bytes as a run that was never stopped.

Example
  graft train -c configs/minimal.yaml --set train.learning_rate=1e-4)",
    .bind = bind,
};

}  // namespace graft::cli
