#include "export/probe.h"

#include <algorithm>
#include <iostream>

#include "cli/engine.h"
#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop.h"
#include "export/server.h"

namespace graft::cli {
namespace {

using exports::Artifact;

exports::ProbedModel probe_artifact(const Session& session, const Artifact& artifact,
                                    std::span<const std::vector<std::int32_t>> prompts) {
  log::info("probe", "asking ", artifact.format);
  const auto ask = [&](const model::WeightSource& weights, Dtypes dtypes, lora::AdapterSet* adapter) {
    LazyDecoder decoder(weights, dtypes);
    return exports::probe(artifact.format, artifact.id(), decoder.with(adapter), prompts);
  };
  if (artifact.format != "peft" && artifact.format != "gguf-lora") {
    std::unique_ptr<lora::AdapterSet> beside;  // of a directory that holds the base alone
    if (fs::exists(artifact.path / "adapter")) beside = lora::load_peft(artifact.path / "adapter");
    return ask(*model::open_weights(artifact.path), {at::kFloat, session.dtypes().compute}, beside.get());
  }
  const auto adapter = artifact.format == "peft" ? lora::load_peft(artifact.path) : session.adapter();
  if (exports::adapter_hash(*adapter) != artifact.source.adapter)
    throw DataError(cat(artifact.path.string(), " is not of this run's adapter; run `graft export` first"));
  return ask(*session.base, session.dtypes(), adapter.get());
}

}  // namespace

int graft_probe(const Context& context) {
  const Session session(context.config);
  const fs::path directory = session.export_dir();
  const exports::Manifest manifest = exports::open_manifest(directory);
  check_signing_key(session);
  if (!is_vouched_for(session))
    throw DataError(cat((directory / "manifest.json").string(),
                        " is not signed, and export.signing_key would sign it with the probe; run `graft export` first"));
  std::vector<Artifact> artifacts;
  for (const Artifact& artifact : manifest.artifacts())
    if (artifact.format != exports::kProbe) artifacts.push_back(artifact);
  if (artifacts.empty()) throw DataError(cat(directory.string(), " holds no exported file; run `graft export` first"));
  for (const Artifact& artifact : artifacts) {
    if (artifact.source.base != session.base->identity())
      throw DataError(cat(artifact.path.string(), " was made from another base than ", session.base->path().string()));
    if (const auto problems = exports::changed_files(artifact); !problems.empty()) throw DataError(exports::joined(problems));
  }
  const auto prompts = exports::probe_prompts(*session.tokenizer);
  std::vector<exports::ProbedModel> models;
  {
    LazyDecoder base(*session.base, session.dtypes());
    models.push_back(exports::probe("base", "", base.with(nullptr), prompts));
  }
  for (const Artifact& artifact : artifacts) models.push_back(probe_artifact(session, artifact, prompts));
  // Of this adapter, where there is one: the base alone may be older.
  const auto own = std::find_if(artifacts.begin(), artifacts.end(),
                                [](const Artifact& artifact) { return !exports::is_base_alone(artifact.format); });
  const exports::Source& source = (own == artifacts.end() ? artifacts.front() : *own).source;
  const Artifact written = exports::write_probe(directory, source, prompts, models);
  sign_export(session);
  if (context.json)
    print_json({{"directory", written.path.string()}, {"requests", prompts.size()}, {"models", models.size()}});
  else
    std::cout << prompts.size() << " requests, answered by " << models.size() << " models: " << written.path.string() << "\n";
  return kDone;
}

}  // namespace graft::cli
