// Gathers what report.html and the summary of `graft run` show.
#pragma once

#include <string>
#include <vector>

#include "cli/engine/familiar.h"
#include "cli/engine/stages.h"
#include "train/report/report.h"

namespace graft::cli {

struct RunResult {
  data::PrepareReport prepared;
  train::TrainReport trained;
  std::vector<Score> scores;
  std::vector<Familiar> familiar;
  std::vector<exports::Artifact> artifacts;
  fs::path serving;       // the README of the files for servers
  std::string withdrawn;  // what was said of artifacts that keep too little of the gain
  std::vector<train::ReportAnswer> answers;
  double seconds = 0;             // of this command
  std::uint64_t peak_memory = 0;  // bytes; the largest that a stage of the run took
};

train::Report make_report(const Session& session, const RunResult& result);
Json json_of(const RunResult& result, const std::string& report_path);

}  // namespace graft::cli
