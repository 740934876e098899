#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <new>

#include "cli/command.h"
#include "core/config_reader.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

constexpr const char* kSummary =
    "Turns your documents into a domain-adapted open-weight model, on this machine and offline.";
constexpr const char* kFooter = R"(
First steps:
  graft run -c configs/minimal.yaml     everything: documents -> corpus -> adapter -> scores -> files for serving
  graft run --help                      what it reads and writes
  graft help config                     every key of the config with its default, range and meaning

Results go to stdout (--json for machines), progress and logs to stderr.
Exit codes: 0 done, 2 your input is at fault, 4 the machine is at fault, 130/143 stopped by a signal.)";

std::vector<const Command*> commands_in_order() {
  std::vector<const Command*> commands(all_commands().begin(), all_commands().end());
  std::sort(commands.begin(), commands.end(), [](auto* a, auto* b) { return a->order < b->order; });
  return commands;
}

void add_common(CLI::App& app, Common& common) {
  app.add_flag("--json", common.json, "print the result as one JSON object");
  auto* quiet = app.add_flag("-q,--quiet", common.quiet, "only warnings and errors on stderr");
  app.add_flag("-v,--verbose", common.verbose, "more detail on stderr")->excludes(quiet);
}

std::function<int()> add_command(CLI::App& parent, const Command& command, Common& common) {
  CLI::App* app = parent.add_subcommand(std::string(command.name), std::string(command.summary));
  app->footer("\n" + std::string(command.details));
  app->allow_extras();
  auto run = command.bind(*app, common);
  add_common(*app, common);
  return run;
}

// What the parser did not understand, answered with the nearest thing it would have.
[[noreturn]] void unexpected(const CLI::App& app, const std::string& argument) {
  std::vector<std::string> known;
  std::string what;
  if (argument.rfind("-", 0) == 0) {
    what = "unknown option ";
    for (const CLI::Option* option : app.get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  } else if (app.get_parent() == nullptr) {
    what = "unknown command ";
    for (const Command* command : all_commands()) known.emplace_back(command->name);
  } else {
    what = "unexpected argument ";
  }
  const std::string name = argument.substr(0, argument.find('='));
  const std::string nearest = known.empty() ? "" : did_you_mean(name, known);
  const std::string path = app.get_parent() == nullptr ? "graft" : cat("graft ", app.get_name());
  throw ConfigError(cat(what, quote(name), nearest, "; see `", path, " --help`"));
}

int dispatch(int argc, const char* const* argv) {
  Common common;
  CLI::App app(kSummary, "graft");
  app.footer(kFooter);
  app.set_version_flag("--version", "graft " GRAFT_VERSION);
  app.allow_extras();
  app.get_formatter()->column_width(30);
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  for (const Command* command : commands_in_order()) {
    auto run = add_command(app, *command, common);
    commands.emplace_back(app.get_subcommand(std::string(command->name)), std::move(run));
  }
  if (argc < 2) {
    std::cerr << app.help();
    return kUserFault;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    const std::string path = chosen.empty() ? "graft" : "graft " + chosen.front()->get_name();
    throw ConfigError(cat(error.what(), "; see `", path, " --help`"));
  }
  if (const auto extras = app.remaining(false); !extras.empty()) unexpected(app, extras.front());
  for (auto& [command, run] : commands) {
    if (!command->parsed()) continue;
    if (const auto extras = command->remaining(false); !extras.empty()) unexpected(*command, extras.front());
    log::set_level(common.verbose ? log::Level::debug : common.quiet ? log::Level::warn : log::Level::info);
    const int code = run();
    if (!std::cout.flush()) throw MachineError("cannot write the result to standard output");
    return code;
  }
  throw ConfigError("no command given; see `graft --help`");
}

int fail(int code, const std::string& message) {
  std::cout.flush();
  std::cerr << "graft: " << message << std::endl;
  return code;
}

}  // namespace

const Command* find_command(std::string_view name) {
  for (const Command* command : all_commands())
    if (command->name == name) return command;
  return nullptr;
}

std::string help_of(const Command& command) {
  Common common;
  CLI::App app("", "graft");
  app.get_formatter()->column_width(30);
  add_command(app, command, common);
  return app.get_subcommand(std::string(command.name))->help("graft");
}

int run_program(int argc, const char* const* argv) {
  try {
    return dispatch(argc, argv);
  } catch (const Error& error) {
    return fail(error.exit_code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(kMachineFault, "out of memory; `graft estimate` says what a run needs");
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(kMachineFault, cat(error.path1().string(), ": ", error.code().message()));
  } catch (const std::exception& error) {  // LibTorch's errors carry a backtrace below their first line
    const std::string what = error.what();
    const std::string line = what.substr(0, what.find('\n'));
    if (what.find("can't allocate memory") != std::string::npos)
      return fail(kMachineFault, cat("out of memory (", line, "); `graft estimate` says what a run needs"));
    return fail(kMachineFault, cat("internal error, please report it: ", line));
  }
}

}  // namespace graft::cli
