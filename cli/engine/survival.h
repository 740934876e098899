// How much of what an adapter learned is left in a file that rounds its weights:
//
//   survival    = (bits(base) - bits(file)) / (bits(base) - bits(adapted))             bits: of all held-out sets together
//   update kept = (bits(base in its format) - bits(file)) / (bits(base) - bits(adapted))
//
// Survival is 1 when nothing is lost, 0 when the file is no better than the base. A coarse grid costs any model something, and
// survival pays for that too; update kept does not: it is what the adapter is worth on that grid. Both say nothing where the
// adapter gained nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/engine/scores.h"
#include "eval/interval.h"
#include "export/exporter.h"

namespace graft::cli {

std::optional<double> survival(const std::vector<Score>& scores, const std::string& model);
// Nothing where the documents' losses are not known.
std::optional<eval::Interval> survival_interval(const std::vector<Score>& scores, const std::string& model);
Json interval_json(const eval::Interval& interval);  // [low, high], null where there is no bound
// Of what the adapter saves of the base's bits.
std::optional<eval::Interval> gain_interval(const std::vector<Score>& scores);
std::optional<double> update_kept(const std::vector<Score>& scores, const std::string& format);
std::optional<double> divergence(const std::vector<Score>& scores, const std::string& model);  // Score::kl over all sets, nats
// Of one artifact, for JSON: "survival", "update_kept" and "kl", those that are known.
Json survival_json(const std::vector<Score>& scores, const std::string& format);
// survival() and its interval as the tables show them, "88.7 % (86.2..91.0)": of the base and the adapted model, which it is
// measured between, nothing.
std::string kept(const std::vector<Score>& scores, const std::string& model);
std::string percent(const std::optional<double>& share);  // "97.0 %"; empty when unknown

// Bits per byte over all held-out sets together; nothing when the model was not scored.
std::optional<double> bits_per_byte(const std::vector<Score>& scores, const std::string& model);

// What to say of an adapter that is no better than the base; empty when it is, or nobody asks (export.min_survival: 0).
std::string gained_nothing(const Session& session, const std::vector<Score>& scores);

// Whether export.min_survival lets a file be served. One that is not quantized, or when nothing was scored: yes.
bool keeps_enough(const Session& session, const std::string& format, const std::vector<Score>& scores);

// What to tell the user of one that is let through although the documents are too few to tell it from one that keeps too little;
// empty for another.
std::string doubt(const Session& session, const std::string& format, const std::vector<Score>& scores);

// What to tell the user of one that is not: how much it keeps, and the smallest of `kept` that keeps enough, or the format to
// try next.
std::string refusal(const Session& session, const std::string& format, const std::vector<exports::Artifact>& kept,
                    const std::vector<Score>& scores);

}  // namespace graft::cli
