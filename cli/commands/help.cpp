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
3     an exported file keeps less than export.min_survival of what was learned, and did not take its name; the rest is done. Or the
      adapter is no better than the base on the held-out documents, and nothing was exported
4     the machine is at fault: disk, memory, device
75    another graft is at work in the same corpus, run or export directory; the same command does when it has ended
130   stopped by Ctrl-C (SIGINT), after a checkpoint if training had begun; the same command continues
143   stopped by SIGTERM, likewise; 138: by SIGUSR1; 129: by SIGHUP, the terminal was closed
)";

// The columns of the table that `run`, `eval` and `export` print; the names of rows first.
constexpr const char* kScores = R"(base            the model before training
adapted         the base with the adapter beside it, as it was trained
merged          the adapter folded into the weights, in bf16 (where hf is exported, that row is it); then a row for each exported
                file, opened again from disk

bits per byte   negative log likelihood of the held-out text per byte of it that is predicted; lower is better
against base    the same, relative to the base
gain kept       what the file saves of the bits that the adapter saves: 100 % is all, 0 % no better than the base, below 0 % worse
                (export.min_survival asks for this much). In brackets the 95 % interval over the held-out documents: another sample
                of such documents would say something in it
quantized base  bits per byte of the base alone in the file's format: what the format costs any model. Not measured for formats
                that look at documents, whose rounding would have to be found anew
update kept     what the adapter is worth in that format, of what it is worth without rounding
KL to merged    how far the file's predictions are from those of the merged model, nats per token on a sample of the text; 0 is the same
perplexity      exp(negative log likelihood per token); compares models of one tokenizer only

Below the table of `run` and `eval`: how many held-out documents stand by half or more, in runs of 13 tokens, in documents trained
on, and what the adapter saves on the others. --json has it as "familiar".

--json and run_dir/scores.json hold the same: "bits_per_byte", "survival" (gain kept), "base in FORMAT" (quantized base),
"update_kept", "kl", "perplexity".
)";

int show(const std::string& topic, const Common& common) {
  if (topic == "config") {
    std::cout << describe_config<train::RunConfig>();
  } else if (topic == "formats") {
    return call_engine<decltype(graft_formats)>("graft_formats", common.context_without_config());
  } else if (topic == "scores") {
    std::cout << kScores;
  } else if (topic == "exit-codes") {
    std::cout << kExitCodes;
  } else if (const Command* command = find_command(topic)) {
    std::cout << help_of(*command);
  } else if (topic.empty()) {
    constexpr const char* arguments[] = {"graft", "--help"};
    return run_program(2, arguments);
  } else {
    std::vector<std::string> known = {"config", "formats", "scores", "exit-codes"};
    for (const Command* each : all_commands()) known.emplace_back(each->name);
    throw ConfigError(cat("no help on ", quote(topic), did_you_mean(topic, known)));
  }
  return kDone;
}

std::function<int()> bind(CLI::App& app, Common& common) {
  auto topic = std::make_shared<std::string>();
  app.add_option("TOPIC", *topic, "config, formats, scores, exit-codes, or a command");
  return [topic, &common] { return show(*topic, common); };
}

}  // namespace

const Command help = {
    .name = "help",
    .order = 12,
    .summary = "every key of the config, the export formats, the columns of scores, the exit codes, or a command",
    .details = R"(Examples
  graft help config
  graft help formats
  graft help scores
  graft help train)",
    .bind = bind,
};

}  // namespace graft::cli
