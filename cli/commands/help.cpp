#include <CLI/CLI.hpp>
#include <iostream>

#include "cli/command.h"
#include "core/config_reader.h"
#include "core/error.h"

namespace graft::cli {

extern const Command help;

namespace {

constexpr const char* kExitCodes = R"(0     done
2     your input is at fault: command line, config, documents, model file. The message says what to change
3     a gate said no
4     the machine is at fault: disk, memory, device
130   stopped by Ctrl-C (SIGINT), after a checkpoint if training had begun; the same command continues
143   stopped by SIGTERM, likewise
)";

int show(const std::string& topic, const Common& common) {
  if (topic == "config") {
    std::cout << describe_config<train::RunConfig>();
  } else if (topic == "formats") {
    return call_engine<decltype(graft_formats)>("graft_formats", common.context_without_config());
  } else if (topic == "exit-codes") {
    std::cout << kExitCodes;
  } else if (const Command* command = find_command(topic)) {
    std::cout << help_of(*command);
  } else if (topic.empty()) {
    constexpr const char* arguments[] = {"graft", "--help"};
    return run_program(2, arguments);
  } else {
    std::vector<std::string> known = {"config", "formats", "exit-codes"};
    for (const Command* each : all_commands()) known.emplace_back(each->name);
    throw ConfigError(cat("no help on ", quote(topic), did_you_mean(topic, known)));
  }
  return kDone;
}

std::function<int()> bind(CLI::App& app, Common& common) {
  auto topic = std::make_shared<std::string>();
  app.add_option("TOPIC", *topic, "config, formats, exit-codes, or a command");
  return [topic, &common] { return show(*topic, common); };
}

}  // namespace

const Command help = {
    .name = "help",
    .order = 12,
    .summary = "every key of the config, the export formats, the exit codes, or a command",
    .details = R"(Examples
  graft help config
  graft help formats
  graft help train)",
    .bind = bind,
};

}  // namespace graft::cli
