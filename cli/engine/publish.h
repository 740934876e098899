// Exports behind the gate of export.min_survival: each artifact is scored while it is staged, and takes its name only when it
// passes, so that what is served is never replaced by what is worse than asked for. manifest.json says how it passed:
//
//   "heldout": {"gate", "min_survival", "bits_per_byte": {"base", "adapted", "file"}, "survival", "survival_interval": [low,
//   high]} those that are known; an end of the interval that is not is null gate: "passed"; "off": export.min_survival is 0;
//   "unknown": nothing was scored, or held out
#pragma once

#include <string>
#include <vector>

#include "cli/engine/scores.h"
#include "cli/engine/session.h"
#include "export/exporter.h"

namespace graft::cli {

struct Published {
  std::vector<exports::Artifact> artifacts;
  std::string refused;  // what to tell the user of the others, a line each; empty when all passed
  fs::path serving;     // the README of the files for servers
};

enum class Scored { all, quantized };

// Writes `formats` and the files for servers, and signs when all passed. scores: of base and adapted model, to which those of the
// artifacts are added; empty when nothing is held out or scored. An adapter that gained nothing is not exported at all.
Published publish(const Session& session, ScoreBook& book, lora::AdapterSet& adapter, LazyDecoder& decoder,
                  const std::vector<std::string>& formats, Scored which, std::vector<Score>& scores);

}  // namespace graft::cli
