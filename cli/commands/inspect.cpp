#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command inspect;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  auto o = std::make_shared<InspectOptions>();
  app.add_option("PATH", o->path, "corpus, run, checkpoint, adapter or model directory; GGUF or safetensors file")->required();
  auto* batches = app.add_option("--batches", o->batches, "corpus: print this many training batches as JSON lines")
                      ->check(CLI::PositiveNumber);
  app.add_option("--length", o->length, "with --batches: tokens of a row", true)->needs(batches)->check(CLI::Range(8, 1 << 20));
  app.add_option("--rows", o->rows, "with --batches: rows of a batch", true)->needs(batches)->check(CLI::Range(1, 1 << 20));
  app.add_option("--seed", o->seed, "with --batches: train.seed", true)->needs(batches)->check(CLI::NonNegativeNumber);
  app.add_option("--long-documents", o->long_documents, "with --batches: train.long_documents", true)
      ->needs(batches)
      ->check(CLI::IsMember({"split", "truncate", "drop"}));
  return [o, &common] {
    return engine<decltype(graft_inspect)>("graft_inspect")(common.context_without_config(), *o);
  };
}

}  // namespace

const Command inspect = {
    .name = "inspect",
    .order = 7,
    .summary = "what is in a corpus, a model, an adapter, a checkpoint or a run",
    .details = R"(Reads   PATH, and says what it is and what it holds. Text of documents is never printed.
Writes  nothing. --batches prints the rows that training reads, in its order: one JSON object a batch with tokens, labels
        (-100: no loss), positions and starts (where each document begins).

Examples
  graft inspect corpus
  graft inspect model.gguf --json
  graft inspect corpus --batches 2 --length 1024 --rows 4 --seed 0)",
    .bind = bind,
};

}  // namespace graft::cli
