#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "core/config_reader.h"
#include "core/error.h"

namespace graft::cli {
namespace {

std::vector<ConfigOverride> parse_overrides(const std::vector<std::string>& set) {
  std::vector<ConfigOverride> overrides;
  for (const std::string& assignment : set) {
    const auto equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0)
      throw ConfigError(cat("--set ", quote(assignment), " has no key and value; write --set train.steps=100"));
    overrides.push_back({assignment.substr(0, equals), assignment.substr(equals + 1)});
  }
  return overrides;
}

}  // namespace

void add_config_option(CLI::App& app, Common& common, bool positional) {
  app.add_option(positional ? "-c,--config,CONFIG" : "-c,--config", common.config, "the run's YAML file; `graft help config`")
      ->option_text("FILE");
  app.add_option("--set", common.set, "overrides one key of the config, e.g. --set train.steps=100; repeatable")
      ->option_text("KEY=VALUE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
}

Context Common::context() const {
  if (config.empty()) throw ConfigError("no config given; name one with -c FILE (configs/minimal.yaml is a start)");
  Context context;
  context.config = read_config<train::RunConfig>(config, parse_overrides(set));
  context.json = json;
  return context;
}

Context Common::context_without_config() const {
  Context context;
  context.json = json;
  return context;
}

}  // namespace graft::cli
