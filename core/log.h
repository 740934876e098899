// Progress and diagnostics on stderr; results go to stdout and never through here. Messages carry ids, counts and hashes,
// never text of documents.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace graft::log {

enum class Level { info, warn, none };

void set_level(Level level);  // the least that is shown; default info
bool shows(Level level);
std::string printable(
    std::string text);  // control characters but newline and tab as '?': what files say may carry terminal escapes
void write(Level level, std::string_view module, const std::string& message);

// log::info("prepare", "read ", n, " documents") prints "[prepare] read 3 documents".
template <class... Args>
void info(std::string_view module, const Args&... args) {
  write(Level::info, module, cat(args...));
}
template <class... Args>
void warn(std::string_view module, const Args&... args) {
  write(Level::warn, module, cat(args...));
}

}  // namespace graft::log
