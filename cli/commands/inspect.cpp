#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "core/error.h"

namespace graft::cli {

extern const Command inspect;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  auto o = std::make_shared<InspectOptions>();
  add_config_option(app, common, false);
  app.add_option("PATH", o->path, "corpus, run, checkpoint, adapter or model directory; GGUF or safetensors file");
  auto* batches = app.add_option("--batches", o->batches, "corpus: print this many training batches as JSON lines")
                      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 62));
  app.add_option("--length", o->length, "with --batches: tokens of a row")
      ->capture_default_str()
      ->needs(batches)
      ->check(CLI::Range(8, 1 << 20));
  app.add_option("--rows", o->rows, "with --batches: rows of a batch")
      ->capture_default_str()
      ->needs(batches)
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--seed", o->seed, "with --batches: train.seed")
      ->capture_default_str()
      ->needs(batches)
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 62));
  app.add_option("--long-documents", o->long_documents, "with --batches: train.long_documents")
      ->capture_default_str()
      ->needs(batches)
      ->check(CLI::IsMember({"split", "truncate", "drop"}));
  auto* document = app.add_option("--document", o->document,
                                  "corpus: look for the document of this id: path, path:line, path#id, path#2 for a second part")
                       ->excludes(batches);
  app.add_option("--run", o->run, "with --document: was it in what this run (or its model) was trained on?")->needs(document);
  return [o, &common] {
    if (common.config.empty() == o->path.empty())
      throw ConfigError("give either a PATH to look into or a config with -c; see `graft inspect --help`");
    const Context context = o->path.empty() ? common.context() : common.context_without_config();
    return call_engine<decltype(graft_inspect)>("graft_inspect", context, *o);
  };
}

}  // namespace

const Command inspect = {
    .name = "inspect",
    .order = 8,
    .summary = "what is in a corpus, a model, an adapter, a checkpoint, a run or a config",
    .details =
        R"(Reads   PATH, and says what it is and what it holds; or a config, and prints every key with the value it has. Text of
        documents is never printed.
Writes  nothing. --batches prints the rows that training reads, in its order: one JSON object a batch with tokens, labels
        (-100: no loss), positions and starts (where each document begins). --document lists every version of one document, with
        its shard and split; with --run also whether the run's training or held-out sets have it.

Examples
  graft inspect model.gguf --json
  graft inspect -c configs/minimal.yaml --set train.steps=10
  graft inspect out/minimal/corpus
  graft inspect out/minimal/corpus --batches 2 --length 1024 --rows 4 --seed 0
  graft inspect out/minimal/corpus --document docs/start.html --run out/minimal)",
    .bind = bind,
};

}  // namespace graft::cli
