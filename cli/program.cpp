#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <new>

#include "cli/command.h"
#include "core/error.h"
#include "core/log.h"
#include "core/nearest.h"

namespace graft::cli {
namespace {

constexpr const char* kSummary = "Turns your documents into a domain-adapted open-weight model, on this machine and offline.";
constexpr const char* kFooter = R"(First steps:
  graft run -c configs/minimal.yaml     everything: documents -> corpus -> adapter -> scores -> files for serving
  graft run --help                      what it reads and writes
  graft help config                     every key of the config with its default, range and meaning

Results go to stdout (--json for machines), progress and logs to stderr.
Exit codes: 0 done, 2 your input is at fault, 3 an exported file lost too much, 4 the machine is at fault, 75 another process is
at work there, 129/130/138/143 stopped by a signal (`graft help exit-codes`).)";

// CLI11's option lines without its ranges and relations, which the errors say when they matter.
class Formatter : public CLI::Formatter {
 public:
  Formatter() { column_width(30); }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (!option->get_option_text().empty())
      return option->get_positional() && option->get_lnames().empty() ? "" : " " + option->get_option_text();
    if (option->get_type_size() == 0) return "";
    const std::string type = option->get_type_name(), value = option->get_default_str();
    return " " + type.substr(0, type.find(':')) + (value.empty() ? "" : "=" + value);
  }
};

// `graft` without a command: --help, --version.
std::unique_ptr<CLI::App> top_app() {
  auto app = std::make_unique<CLI::App>(kSummary, "graft");
  app->formatter(std::make_shared<Formatter>());
  app->footer(kFooter);
  app->set_version_flag("--version", "graft " GRAFT_VERSION)->description("print the version");
  app->allow_extras();
  std::vector<const Command*> commands(all_commands().begin(), all_commands().end());
  std::sort(commands.begin(), commands.end(), [](auto* a, auto* b) { return a->order < b->order; });
  for (const Command* command : commands) app->add_subcommand(std::string(command->name), std::string(command->summary));
  return app;
}

struct CommandLine {
  Common common;
  CLI::App app;
  std::function<int()> run;

  explicit CommandLine(const Command& command) : app(std::string(command.summary), cat("graft ", command.name)) {
    app.formatter(std::make_shared<Formatter>());
    app.footer(std::string(command.details));
    app.allow_extras();
    run = command.bind(app, common);
    app.add_flag("--json", common.json, "print the result as one JSON object");
    app.add_flag("-q,--quiet", common.quiet, "only warnings and errors on stderr");
  }
};

// What the parser did not understand, answered with the nearest thing it would have.
[[noreturn]] void unexpected(const CLI::App& app, const std::string& argument) {
  std::vector<std::string> known;
  const bool option = argument.rfind("-", 0) == 0;
  if (option)
    for (const CLI::Option* each : app.get_options())
      for (const std::string& name : each->get_lnames()) known.push_back("--" + name);
  const std::string name = argument.substr(0, argument.find('='));
  const std::string hint = did_you_mean(name, known);
  throw ConfigError(cat(option ? "unknown option " : "unexpected argument ", quote(name), hint,
                        hint.empty() ? "; see `" : " See `", app.get_name(), " --help`"));
}

// Parses arguments[1..]; false when they asked for help or the version, which is then printed.
bool parse(CLI::App& app, int count, const char* const* arguments) {
  try {
    app.parse(count, arguments);
  } catch (const CLI::Success& asked) {
    app.exit(asked, std::cout, std::cerr);
    return false;
  } catch (const CLI::ParseError& error) {
    throw ConfigError(cat(error.what(), "; see `", app.get_name(), " --help`"));
  }
  if (const auto extras = app.remaining(); !extras.empty()) unexpected(app, extras.front());
  return true;
}

int dispatch(int argc, const char* const* argv) {
  const auto top = top_app();
  if (argc < 2) {
    std::cerr << top->help();
    return kUserFault;
  }
  const std::string name = argv[1];
  if ((name == "-h" || name == "--help") && argc > 2)
    if (const Command* command = find_command(argv[2])) {
      std::cout << help_of(*command);
      return kDone;
    }
  if (name.rfind("-", 0) == 0) {
    if (parse(*top, argc, argv)) throw ConfigError("no command given; see `graft --help`");
    return kDone;
  }
  const Command* command = find_command(name);
  if (command == nullptr) {
    std::vector<std::string> known;
    for (const Command* each : all_commands()) known.emplace_back(each->name);
    const std::string hint = did_you_mean(name, known);
    throw ConfigError(cat("unknown command ", quote(name), hint, hint.empty() ? "; see `graft --help`" : " See `graft --help`"));
  }
  CommandLine line(*command);
  if (!parse(line.app, argc - 1, argv + 1)) return kDone;
  log::set_level(line.common.quiet ? log::Level::warn : log::Level::info);
  const int code = line.run();
  if (!std::cout.flush()) throw MachineError("cannot write the result to standard output");
  return code;
}

int fail(int code, const std::string& message) {
  std::cout.flush();
  std::cerr << "graft: " << log::printable(message) << std::endl;
  return code;
}

}  // namespace

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(name, known);
  return nearest.empty() ? "" : cat("; did you mean ", quote(nearest), "?");
}

const Command* find_command(std::string_view name) {
  for (const Command* command : all_commands())
    if (command->name == name) return command;
  return nullptr;
}

std::string help_of(const Command& command) { return CommandLine(command).app.help(); }

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
