// Exported files on the held-out sets, and beside them what their figures are read against.
#pragma once

#include <memory>
#include <vector>

#include "cli/engine/scores.h"
#include "cli/engine/session.h"
#include "export/exporter.h"

namespace graft::cli {

// Scores artifacts one after the other, each reopened from Artifact::path. Where one of them is quantized also "merged", the
// model in bf16 before it was rounded, unless "hf" comes first, which is the same; of every other file that holds a model the
// divergence from that; and for each quantized format that looks at no documents "base in <format>": the base alone, written as
// that format writes it into a directory that is gone afterwards.
//
// An adapter's own formats hold the very values of the adapter, so they score as it does.
class ArtifactScorer {
 public:
  // formats: of all that will be scored.
  ArtifactScorer(const Session& session, ScoreBook& book, lora::AdapterSet& adapter, LazyDecoder& decoder,
                 const std::vector<std::string>& formats);
  ~ArtifactScorer();
  ArtifactScorer(const ArtifactScorer&) = delete;
  ArtifactScorer& operator=(const ArtifactScorer&) = delete;

  std::vector<Score> score(const exports::Artifact& artifact);

 private:
  class Merged;
  std::vector<Score> score_model(const exports::Artifact& artifact);

  const Session& session_;
  ScoreBook& book_;
  lora::AdapterSet& adapter_;
  LazyDecoder& decoder_;
  const bool compares_;
  std::unique_ptr<Merged> merged_;
};

bool quantizes(const std::string& format);

}  // namespace graft::cli
