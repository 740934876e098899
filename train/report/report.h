// report.html: one page about one run for the people who decide on it. Self-contained: styles and drawings are inside, no script,
// nothing is fetched, so it can be mailed and archived. Everything shown is data of this struct; nothing is computed elsewhere.
//
// It shows answers of the model and paths, but no text of documents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/report/history.h"

namespace graft::train {

struct ReportScore {
  std::string model;  // "base", "adapted", "merged", or the format of an exported artifact
  std::string set;    // name of the held-out set
  double bits_per_byte = 0, perplexity = 0;
  std::int64_t tokens = 0, documents = 0;
  std::string kept = {}, update_kept = {};    // of the adapter's gain: "97.3 %"; empty when unknown
  std::optional<double> quantized_base = {};  // bits per byte of the base in the artifact's format
  std::optional<double> kl = {};              // from the merged model, nats per token
};
struct ReportArtifact {
  std::string format, path, loads_in, sha256;
  std::uint64_t bytes = 0;
  double max_error = 0;
};
struct ReportAnswer {
  std::string prompt, base, adapted;
};

struct Report {
  std::string title, program, created;  // program: "graft 0.1.0"; created: UTC
  History history;
  std::vector<ReportScore> scores;  // by set; the base first in each
  std::string familiar;             // how much held-out text has near-duplicates trained on; a line each set
  std::vector<std::pair<std::string, std::string>> lineage;    // what went in: name, value
  std::vector<std::vector<std::string>> shards;                // split, documents, tokens, source, sha256
  std::vector<std::pair<std::string, std::string>> resources;  // what it cost: name, value
  std::vector<ReportAnswer> answers;
  std::vector<ReportArtifact> artifacts;
  std::string withdrawn;  // of files that kept too little, a line each
  std::string config;     // the resolved YAML
};

std::string render(const Report& report);  // the page

}  // namespace graft::train
