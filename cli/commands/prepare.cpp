#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command prepare;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  add_config_option(app, common, true);
  return [&common] { return call_engine<decltype(graft_prepare)>("graft_prepare", common.context()); };
}

}  // namespace

const Command prepare = {
    .name = "prepare",
    .order = 2,
    .summary = "documents to a tokenized corpus, split into training and held-out text",
    .details = R"(Reads   corpus.sources (text, Markdown, HTML, jsonl, each also as .gz) and the tokenizer of the base model.
Writes  corpus.dir: sealed HDF5 shards and manifest.jsonl. New documents become a new shard; old shards are never touched.
        Every document that is left out is counted under its reason.

Example
  graft prepare -c configs/minimal.yaml
  graft inspect out/minimal/corpus)",
    .bind = bind,
};

}  // namespace graft::cli
