#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command eval;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  auto options = std::make_shared<EvalOptions>();
  app.add_option("--model", options->model, "score this model instead of the config's base: a directory or a GGUF file");
  auto* adapter = app.add_option("--adapter", options->adapter, "PEFT directory; default: the run's own adapter");
  app.add_flag("--base", options->base_only, "score the model without any adapter only")->excludes(adapter);
  return [options, &common] { return call_engine<decltype(graft_eval)>("graft_eval", common.context(), *options); };
}

}  // namespace

const Command eval = {
    .name = "eval",
    .order = 4,
    .summary = "bits per byte and perplexity on the held-out text, with and without the adapter",
    .details =
        R"(Reads   corpus.dir (held-out sets; train for near-duplicates of theirs), the base model or --model, and an adapter.
Writes  run_dir/scores.json, where scores are kept with what they were computed for and not computed twice. Beside
        --model those of base and adapted model are shown when they are there, and what it keeps of the gain.

Examples
  graft eval -c configs/minimal.yaml
  graft eval -c configs/quickstart.yaml --model quickstart/run/export/gguf-q8_0.gguf)",
    .bind = bind,
};

}  // namespace graft::cli
