// Exported files on the held-out sets, and beside them what their figures are read against.
#pragma once

#include <vector>

#include "cli/engine/scores.h"
#include "cli/engine/session.h"
#include "export/exporter.h"

namespace graft::cli {

// Every artifact reopened from disk. Where one of them is quantized also "merged", the model in bf16 before it was rounded,
// unless "hf" is there, which is the same; of every other file that holds a model the divergence from that; and for each
// quantized format that looks at no documents "base in <format>": the base alone, written as that format writes it into a
// directory that is gone afterwards.
//
// An adapter's own formats hold the very values of the adapter, so they score as it does.
std::vector<Score> score_artifacts(const Session& session, ScoreBook& book, lora::AdapterSet& adapter,
                                   const std::vector<exports::Artifact>& artifacts, LazyDecoder& decoder);

}  // namespace graft::cli
