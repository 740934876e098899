#include "data/find_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/stop.h"

namespace graft::data {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

// Calls visit(entry) for what `folder` holds (empty: the working directory); an unreadable folder is reported and left out.
template <class Visit>
void each_entry(const fs::path& folder, Skipped& skipped, Visit visit) {
  throw_if_stopped();
  std::error_code error;
  fs::directory_iterator entries(folder.empty() ? "." : folder, error);
  if (!error)
    for (const fs::directory_iterator end; entries != end; entries.increment(error)) visit(*entries);
  if (error && skipped.unreadable.insert(folder.string()).second)
    log::warn("prepare", folder.string(), ": cannot be read to its end: ", error.message());
}

// Whether to look into a folder below the one that was named.
bool descends(const fs::directory_entry& entry, Skipped& skipped) {
  std::error_code error;
  if (!entry.is_directory(error)) return false;
  if (hidden(entry.path())) {
    skipped.hidden.insert(entry.path().string());
    return false;
  }
  if (!entry.is_symlink(error)) return true;
  if (skipped.linked.insert(entry.path().string()).second)
    log::warn("prepare", entry.path().string(), ": a link to a folder, not followed; name it as a source if it shall be read");
  return false;
}

// What the path or pattern came to: a file, else it is told why there is none.
void take(const fs::path& path, std::vector<std::string>& out, Skipped& skipped) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_regular_file(status))
    out.push_back(path.string());
  else if (!fs::exists(status))
    skipped.broken.insert(path.string());
  else if (!fs::is_directory(status))
    skipped.special.insert(path.string());
}

void collect(const fs::path& folder, std::vector<std::string>& out, Skipped& skipped) {
  std::vector<fs::path> pending{folder};
  while (!pending.empty()) {
    const fs::path at = std::move(pending.back());
    pending.pop_back();
    each_entry(at, skipped, [&](const fs::directory_entry& entry) {
      if (descends(entry, skipped))
        pending.push_back(entry.path());
      else if (hidden(entry.path()))
        skipped.hidden.insert(entry.path().string());
      else
        take(entry.path(), out, skipped);
    });
  }
}

// Matches the components [first, end) of a pattern below `base`.
void expand(const fs::path& base, const std::vector<std::string>& components, std::size_t first, std::vector<std::string>& out,
            Skipped& skipped) {
  if (first == components.size()) return take(base, out, skipped);
  std::error_code error;
  const std::string& component = components[first];
  if (component == "**") {
    expand(base, components, first + 1, out, skipped);
    each_entry(base, skipped, [&](const fs::directory_entry& entry) {
      if (descends(entry, skipped)) expand(base / entry.path().filename(), components, first, out, skipped);
    });
  } else if (component.find_first_of("*?[") == std::string::npos) {
    if (fs::exists(base / component, error)) expand(base / component, components, first + 1, out, skipped);
  } else {
    each_entry(base, skipped, [&](const fs::directory_entry& entry) {
      const std::string name = entry.path().filename().string();
      if (fnmatch(component.c_str(), name.c_str(), FNM_PERIOD) == 0)
        expand(base / name, components, first + 1, out, skipped);
      else if (first + 1 == components.size() && fnmatch(component.c_str(), name.c_str(), 0) == 0)
        skipped.hidden.insert((base / name).string());
    });
  }
}

}  // namespace

std::vector<std::string> find_files(const std::string& path, Skipped* told) {
  Skipped ours;
  Skipped& skipped = told != nullptr ? *told : ours;
  std::vector<std::string> found;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) {
    collect(path, found, skipped);
    if (found.empty()) throw DataError(cat(path, ": the folder holds no files"));
  } else if (fs::is_regular_file(status)) {
    found.push_back(path);
  } else if (path.find_first_of("*?[") != std::string::npos) {
    const fs::path pattern(path);
    std::vector<std::string> components;
    for (const fs::path& part : pattern.relative_path()) components.push_back(part.string());
    // Two ** in a row reach the same file by several ways.
    components.erase(
        std::unique(components.begin(), components.end(), [](const auto& a, const auto& b) { return a == "**" && b == "**"; }),
        components.end());
    if (!components.empty() && components.back() == "**") components.push_back("*");
    expand(pattern.root_path(), components, 0, found, skipped);
    if (found.empty()) throw DataError(cat(path, ": the pattern matches no file"));
  } else if (fs::exists(status)) {
    throw DataError(cat(path, ": is neither a file nor a folder"));
  } else {
    throw DataError(
        cat(path, ": no such file or folder; it is looked up from the working directory ", fs::current_path(error).string()));
  }
  std::ranges::sort(found);
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace graft::data
