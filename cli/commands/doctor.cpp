#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "core/error.h"

namespace graft::cli {

extern const Command doctor;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  auto options = std::make_shared<DoctorOptions>();
  app.add_option("--for", options->servers, "what this server makes of export.formats; repeatable")
      ->option_text("SERVER")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  app.add_option("--tensor-parallel", options->tensor_parallel, "devices over which the server cuts each matrix")
      ->option_text("N")
      ->check(CLI::Range(1, 1024));
  return [&common, options] {
    options->has_config = !common.config.empty();
    if (!options->has_config && (!options->servers.empty() || options->tensor_parallel > 0 || !common.set.empty()))
      throw ConfigError("--for, --tensor-parallel and --set are about a config; give one with -c");
    const Context context = options->has_config ? common.context() : common.context_without_config();
    return call_engine<decltype(graft_doctor)>("graft_doctor", context, *options);
  };
}

}  // namespace

const Command doctor = {
    .name = "doctor",
    .order = 11,
    .summary = "what this machine offers, and whether a config will work on it",
    .details =
        R"(Reads   processor, memory, disk and libraries; with a config also its base, sources, corpus and export formats, and what the
        servers of export.serve and --for (vllm, llama.cpp, ollama, tensorrt-llm, triton) will make of those.
Writes  nothing. Ends with exit code 2 when something in the config will not work.

Examples
  graft doctor
  graft doctor -c configs/minimal.yaml
  graft doctor -c configs/minimal.yaml --for vllm --tensor-parallel 2)",
    .bind = bind,
};

}  // namespace graft::cli
