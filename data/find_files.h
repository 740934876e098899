// The files that a configured path stands for.
#pragma once

#include <string>
#include <vector>

namespace graft::data {

// `path` is a file, a folder (read recursively) or a glob: ?, *, [a-z] within one component, ** for any number of
// folders. Hidden files and folders are taken only where the pattern names them; links to folders are not followed
// below a folder. Regular files only, sorted by path in byte order, so that the order is the same on every machine.
// DataError when the path or pattern matches no file.
std::vector<std::string> find_files(const std::string& path);

}  // namespace graft::data
