// The files that a configured path stands for.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace graft::data {

// What was come by and is not read, by path.
struct Skipped {
  std::set<std::string> linked, unreadable;       // folders
  std::set<std::string> hidden, broken, special;  // hidden files and folders, links to nothing, what is neither file nor folder
};

// `path` is a file, a folder (read recursively) or a glob: ?, *, [a-z] within one component, ** for any number of
// folders. Hidden files and folders are taken only where the pattern names them; links to folders are not followed
// below a folder, which would give a document several ids. What is not read for such a reason is told in `skipped`. Regular
// files only, sorted by path in byte order, so that the order is the same on every machine.
// DataError when the path or pattern matches no file.
std::vector<std::string> find_files(const std::string& path, Skipped* skipped = nullptr);

}  // namespace graft::data
