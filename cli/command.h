// A subcommand is one file in cli/commands/ that defines one Command; cmake/registry.cmake finds it there. The files hold the
// command line only. Work that needs LibTorch is behind cli/engine.h, so that help and config errors come at once.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/engine.h"

namespace CLI {
class App;
}

namespace graft::cli {

// The options that every subcommand has; filled by the parser.
struct Common {
  std::string config;            // -c FILE
  std::vector<std::string> set;  // --set a.b=value
  bool json = false, quiet = false;

  Context context() const;  // reads and checks the config; ConfigError with every problem in it
  Context context_without_config() const;
};

struct Command {
  std::string_view name;
  int order;                 // of the list in `graft --help`: as one meets them
  std::string_view summary;  // one line
  std::string_view details;  // what it reads and writes, and an example
  // Declares the command's own options on `app`; returns what runs once they are parsed. `common` outlives both.
  std::function<int()> (*bind)(CLI::App& app, Common& common);
};

std::span<const Command* const> all_commands();
const Command* find_command(std::string_view name);  // null when there is none

void add_config_option(CLI::App& app, Common& common, bool positional);  // -c, --set; positional: `graft run FILE` works too
std::string help_of(const Command& command);                             // what `graft <command> --help` prints
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);  // "; did you mean 'train'?" or ""

// Parses the command line and runs it. Everything thrown below ends here as one line on stderr and an exit code (core/error.h).
int run_program(int argc, const char* const* argv);

}  // namespace graft::cli
