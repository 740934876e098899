#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command export_;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  auto options = std::make_shared<ExportOptions>();
  app.add_option("-f,--format", options->formats, "write this format instead of export.formats; repeatable")
      ->option_text("NAME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  app.add_option("--adapter", options->adapter, "PEFT directory; default: the run's own adapter");
  return [options, &common] { return call_engine<decltype(graft_export)>("graft_export", common.context(), *options); };
}

}  // namespace

const Command export_ = {
    .name = "export",
    .order = 6,
    .summary = "write the adapter or the merged model for vLLM, llama.cpp, Ollama, transformers",
    .details = R"(Reads   the base model and the run's adapter.
Writes  run_dir/export.dir: one folder or file per format, each reopened and compared with its source before it is
        announced, with its sha256. `graft help formats` lists them.

Examples
  graft export -c configs/minimal.yaml
  graft export -c configs/minimal.yaml -f hf -f gguf-q8_0)",
    .bind = bind,
};

}  // namespace graft::cli
