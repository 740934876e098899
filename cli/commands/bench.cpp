#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command bench;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  auto o = std::make_shared<BenchOptions>();
  app.add_option("WHAT", o->what, "step: one training step; ops: each kernel at the base's shapes")
      ->required()
      ->check(CLI::IsMember({"step", "ops"}));
  add_config_option(app, common, false);
  app.add_option("--repeat", o->repeat, "timed runs; the median counts")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_flag("--made-up", o->made_up, "step: random token ids in documents of --document tokens, not the corpus");
  app.add_option("--document", o->document, "with --made-up: tokens of a document")
      ->capture_default_str()
      ->check(CLI::Range(8, 1 << 20));
  app.add_flag("--profile", o->profile, "step: time by operator as well");
  return [o, &common] { return call_engine<decltype(graft_bench)>("graft_bench", common.context(), *o); };
}

}  // namespace

const Command bench = {
    .name = "bench",
    .order = 10,
    .summary = "how fast this machine trains, and how far that is from its own matrix products",
    .details = R"(Reads   the config's base and, for `step`, the first rows of its corpus (made up when there is none).
Writes  nothing.

step    One optimizer step as training does it, train.rows rows of train.length tokens: tokens per second, memory by purpose, and
        the floor: every matrix product of the step bare, at its own shape, timed in turn with the step in the same process.
ops     Each kernel alone: products against the bare product, the others against a copy of the bytes they must move.

Examples
  graft bench step -c configs/quickstart.yaml
  graft bench step -c configs/quickstart.yaml --set train.rows=4 --repeat 9 --json
  graft bench ops -c configs/quickstart.yaml)",
    .bind = bind,
};

}  // namespace graft::cli
