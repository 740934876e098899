// What the servers of export.serve make of a config, and the files that are written for them beside the artifacts
// (export/server.h, export/serving.h).
#pragma once

#include <string>
#include <vector>

#include "cli/engine/session.h"
#include "export/server.h"

namespace graft::cli {

// ConfigError for a server or format that is not known.
std::vector<exports::Finding> server_findings(const Session& session, const std::string& server);

// ConfigError with the faults of every server of export.serve for these formats; that it reads none of them is one when they are
// export.formats.
void check_servers(const Session& session, const std::vector<std::string>& formats);

// Whether each server of export.serve that reads `format` reads `other` too.
bool replaces(const Session& session, const std::string& other, const std::string& format);

// The tokens that end an answer, where conversations were trained on; else none.
std::vector<std::int32_t> stop_ids(const Session& session);

// The folder serving/ of the export directory; returns its README.md, or nothing when nothing lies there to be served.
fs::path write_serving(const Session& session, const lora::AdapterSet& adapter);
std::string serving_line(const fs::path& readme);  // "how to serve them: ...", or empty

}  // namespace graft::cli
