// The folder serving/ of an export directory: what each server needs beside the artifacts (a Modelfile, a Triton model
// repository) and README.md with the command that serves each. Made from what the manifest lists; edit it freely, the next export
// writes it anew.
#pragma once

#include "export/server.h"

namespace graft::exports {

// served.plan.formats is filled from the manifest with what comes of served.adapter, and the base alone; a warning names what
// comes of another adapter and still lies there. Returns the folder's README.md; nothing is written, what was there is removed,
// and the result is empty when nothing is left.
std::filesystem::path write_serving(const std::filesystem::path& directory, Served served);

std::string served_name(const std::string& name);  // as Served::name wants it

}  // namespace graft::exports
