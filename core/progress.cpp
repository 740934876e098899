#include "core/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/log.h"

namespace graft {
namespace {

// Three significant digits without an exponent: "1.77", "12.3", "512".
std::string three_digits(double value) {
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

std::string scaled(double value, double base, const char* const (&units)[6], const char* separator) {
  if (!std::isfinite(value)) return "?";
  if (value < 0) return "-" + scaled(-value, base, units, separator);
  int unit = 0;
  while (unit < 5 && value >= base - (base == 1000 ? 0.5 : 0)) {
    value /= base;
    ++unit;
  }
  const bool whole = unit == 0 && value == std::floor(value);
  std::string number = whole ? std::to_string(static_cast<long long>(value)) : three_digits(value);
  return *units[unit] ? number + separator + units[unit] : number;
}

}  // namespace

std::string human_count(double value) { return scaled(value, 1000, {"", "k", "M", "G", "T", "P"}, " "); }

std::string human_bytes(double bytes) { return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"}, " "); }

std::string human_time(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "?";
  const long total = std::lround(seconds);
  char text[48];
  if (total >= 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld", total / 60, total % 60);
  return text;
}

Progress::Progress(std::string title, std::uint64_t total, std::string unit)
    : title_(std::move(title)), unit_(std::move(unit)), total_(total), terminal_(isatty(STDERR_FILENO) == 1) {
  start_ = drawn_ = std::chrono::steady_clock::now();
}

Progress::~Progress() { finish(); }

void Progress::update(std::uint64_t done, const std::string& note) {
  const auto now = std::chrono::steady_clock::now();
  if (!started_) {  // a resumed loop starts above zero; its speed counts from there
    started_ = true;
    first_ = done;
    start_ = now;
    drawn_ = now;
  }
  done_ = done;
  if (!note.empty()) note_ = note;
  if (now - drawn_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000))) return;
  drawn_ = now;
  draw(false);
}

void Progress::finish(const std::string& note) {
  if (finished_) return;
  finished_ = true;
  if (!note.empty()) note_ = note;
  if (started_) draw(true);
}

void Progress::draw(bool last) {
  if (!log::shows(log::Level::info)) return;
  const std::uint64_t total = total_ ? std::max(total_, done_) : 0;  // totals of tokens are estimates
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double speed = seconds > 0 ? static_cast<double>(done_ - std::min(first_, done_)) / seconds : 0;
  std::string line = terminal_ ? "\r\x1b[K" : "";
  line += title_ + ": ";
  if (total && terminal_) {
    const auto filled = static_cast<std::size_t>(24.0 * static_cast<double>(done_) / static_cast<double>(total));
    line += "[" + std::string(filled, '=') + std::string(24 - filled, ' ') + "] ";
  }
  line += human_count(static_cast<double>(done_));
  if (total) line += " of " + human_count(static_cast<double>(total));
  line += " " + unit_;
  if (speed > 0) line += ", " + human_count(speed) + " " + unit_ + "/s";
  if (last)
    line += ", took " + human_time(seconds);
  else if (total > done_ && speed > 0)
    line += ", " + human_time(static_cast<double>(total - done_) / speed) + " left";
  if (!note_.empty()) line += ", " + note_;
  if (last || !terminal_) line += '\n';
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace graft
