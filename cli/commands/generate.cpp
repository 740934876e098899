#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command generate;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, false);
  auto o = std::make_shared<GenerateOptions>();
  app.add_option("PROMPT", o->prompt, "the text to continue or the question to answer; default: read from stdin");
  app.add_flag("--chat", o->chat, "put the prompt into the model's chat template and stop at the end of its turn");
  app.add_option("--system", o->system, "system message (with --chat)")->needs("--chat")->option_text("TEXT");
  app.add_option("--model", o->model, "use this model instead of the config's base");
  auto* adapter = app.add_option("--adapter", o->adapter, "PEFT directory; default: the run's own adapter");
  app.add_flag("--base", o->base_only, "the model without any adapter, to compare")->excludes(adapter);
  app.add_option("-n,--max-tokens", o->max_tokens, "longest answer")->capture_default_str()->check(CLI::Range(1, 1 << 20));
  app.add_option("--temperature", o->temperature, "0: always the likeliest token")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-p", o->top_p, "sample from the likeliest tokens that hold this share")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--top-k", o->top_k, "sample from this many likeliest tokens; 0: all")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 62));
  app.add_option("--seed", o->seed, "of the sampling: the same seed gives the same text")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 62));
  return [o, &common] { return call_engine<decltype(graft_generate)>("graft_generate", common.context(), *o); };
}

}  // namespace

const Command generate = {
    .name = "generate",
    .order = 5,
    .summary = "continue a text or answer a question, with the adapter or without",
    .details = R"(Reads   the base model or --model, and an adapter.
Writes  nothing; the text goes to stdout as it is made.

Examples
  graft generate -c configs/minimal.yaml --chat "How do I rebuild an index?"
  echo "To rebuild an index," | graft generate -c configs/minimal.yaml --base)",
    .bind = bind,
};

}  // namespace graft::cli
