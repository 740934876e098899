#include <algorithm>
#include <iostream>
#include <optional>

#include "cli/engine.h"
#include "cli/engine/output.h"
#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"
#include "export/exporter.h"
#include "export/manifest.h"
#include "export/probe.h"
#include "export/server.h"
#include "lora/adapter.h"

namespace graft::cli {
namespace {

using exports::Artifact, exports::Manifest;
using Problems = std::vector<std::string>;

// What a run's exports are made from (train/run_dir.h).
exports::Source source_of_run(const fs::path& run) {
  const auto pins = train::read_pins(run);
  if (!pins) throw DataError(cat(run.string(), ": there is no run.json, so no run began here"));
  exports::Source source;
  source.base = pins->text("base");
  source.corpus = pins->text("corpus");
  source.started_from = pins->started_from();
  source.adapter = exports::adapter_hash(*lora::load_peft(run / "adapter"));
  return source;
}

// The run that the directory lies in, where one has ended there; else none.
std::string run_around(const fs::path& directory) {
  const fs::path run = fs::weakly_canonical(directory).parent_path();
  return fs::exists(run / "run.json") && fs::exists(run / "adapter") ? run.string() : "";
}

Problems of_another_run(const Artifact& artifact, const exports::Source& run, const std::string& directory) {
  Problems problems;
  const auto compare = [&](const char* what, const std::string& recorded, const std::string& own) {
    if (recorded != own)
      problems.push_back(cat(artifact.path.string(), " comes of another ", what, ", ", recorded.empty() ? "unknown" : recorded,
                             "; that of ", directory, " is ", own.empty() ? "unknown" : own));
  };
  compare("base", artifact.source.base, run.base);
  if (exports::is_base_alone(artifact.format)) return problems;  // of whichever adapter it was written for
  compare("adapter", artifact.source.adapter, run.adapter);
  compare("corpus", artifact.source.corpus, run.corpus);
  compare("adapter to start from", artifact.source.started_from, run.started_from);
  return problems;
}

// What export.min_survival said of it; nothing in the manifest of an older program.
std::string gate_of(const Artifact& artifact) {
  return artifact.heldout.is_null() ? "" : json_get_or<std::string>(artifact.heldout, "gate", "", "manifest.json");
}

int verify_files(const Context& context, const VerifyOptions& options, const Manifest& manifest) {
  std::optional<exports::Source> run;
  const std::string of = options.run.empty() ? run_around(options.directory) : options.run;
  if (!of.empty()) run = source_of_run(of);
  Problems all = manifest.unknown_files();
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows = {{"format", "files", "size", "state", "gate", "id"}};
  for (const Artifact& artifact : manifest.artifacts()) {
    Problems problems = exports::changed_files(artifact);
    const bool changed = !problems.empty();
    if (run)
      for (std::string& problem : of_another_run(artifact, *run, of)) problems.push_back(std::move(problem));
    list.push_back({{"format", artifact.format},
                    {"id", artifact.id()},
                    {"path", artifact.path.string()},
                    {"heldout", artifact.heldout},
                    {"problems", problems}});
    rows.push_back({artifact.format, std::to_string(artifact.files.size()), human_bytes(static_cast<double>(artifact.bytes)),
                    changed            ? "differs"
                    : problems.empty() ? "as written"
                                       : "of another run",
                    gate_of(artifact), artifact.id()});
    all.insert(all.end(), problems.begin(), problems.end());
  }
  const Problems serving = manifest.changed_serving();
  all.insert(all.end(), serving.begin(), serving.end());
  const char* signature = !manifest.is_signed() ? "none" : options.key.empty() ? "not checked" : "good";
  if (context.json)
    print_json({{"directory", options.directory},
                {"intact", all.empty()},
                {"signature", signature},
                {"artifacts", list},
                {"serving", {{"problems", serving}}}});
  else
    std::cout << columns(rows) << "signature: " << signature
              << (options.key.empty() && manifest.is_signed() ? "; give --key" : "") << "\n";
  if (!all.empty()) throw DataError(exports::joined(all));
  return kDone;
}

int verify_answers(const Context& context, const VerifyOptions& options, const Manifest& manifest) {
  const auto of_format = [&](const std::string& format) {
    return std::find_if(manifest.artifacts().begin(), manifest.artifacts().end(),
                        [&](const Artifact& artifact) { return artifact.format == format; });
  };
  const auto written = of_format(exports::kProbe);
  if (written == manifest.artifacts().end()) throw UserError(cat(options.directory, " has no probe; `graft probe` writes one"));
  if (const Problems problems = exports::changed_files(*written); !problems.empty()) throw DataError(exports::joined(problems));

  const auto models = exports::read_probe(options.directory);
  const auto answers = exports::read_answers(options.answers);
  std::vector<std::vector<std::string>> rows = {{"answers as", "divergence"}};
  Json list = Json::array();
  std::string nearest, known;
  double least = 0;
  std::optional<double> own;
  for (const exports::ProbedModel& model : models) {
    const double distance = exports::divergence(model, answers);
    rows.push_back({model.format, fixed(distance, 5)});
    list.push_back({{"format", model.format}, {"divergence", distance}});
    if (nearest.empty() || distance < least) {
      nearest = model.format;
      least = distance;
    }
    if (exports::same_format(model.format, options.format) && !model.artifact.empty()) {
      own = distance;
      const auto artifact = of_format(model.format);
      if (artifact == manifest.artifacts().end() || artifact->id() != model.artifact)
        throw DataError(
            cat("the probe was made of ", model.artifact, ", which is not in the manifest any more; run `graft probe`"));
    }
    if (!model.artifact.empty()) known += (known.empty() ? "" : ", ") + model.format;
  }
  if (!own) throw UserError(cat("name what the server serves with --format: ", known));
  if (context.json)
    print_json({{"format", options.format}, {"divergence", *own}, {"nearest", nearest}, {"models", list}});
  else
    std::cout << columns(rows);
  if (!(*own <= options.tolerance))
    throw DataError(cat("the server does not answer as ", options.format, " does: divergence ", fixed(*own, 5), ", at most ",
                        options.tolerance, "; nearest is ", nearest, nearest == "base" ? ", the base without the adapter" : ""));
  return kDone;
}

}  // namespace

int graft_verify(const Context& context, const VerifyOptions& options) {
  const Manifest manifest = exports::open_manifest(options.directory);
  if (!options.key.empty()) manifest.check_signature(options.key);
  return options.answers.empty() ? verify_files(context, options, manifest) : verify_answers(context, options, manifest);
}

}  // namespace graft::cli
