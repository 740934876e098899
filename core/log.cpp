#include "core/log.h"

#include <unistd.h>

#include <atomic>

namespace graft::log {
namespace {

std::atomic<Level> threshold{Level::info};

}  // namespace

void set_level(Level level) { threshold = level; }
std::string printable(std::string text) {
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) c = '?';
  }
  return text;
}

bool shows(Level level) { return level >= threshold; }

void write(Level level, std::string_view module, const std::string& message) {
  if (!shows(level)) return;
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  std::string line = terminal ? "\r\x1b[K" : "";  // over a progress bar
  line += '[';
  line += module;
  line += "] ";
  if (level == Level::warn) line += "warning: ";
  line += printable(message) + '\n';
  // One call, so that lines of threads do not mix; a closed stderr is nobody's fault.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace graft::log
