// One progress line on stderr: a bar redrawn in place on a terminal, a plain line every few seconds elsewhere; nothing
// when log::Level::info is not shown.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace graft {

class Progress {
 public:
  // total in units, 0 when unknown; unit is the plural shown to people ("tokens", "files").
  Progress(std::string title, std::uint64_t total, std::string unit);
  ~Progress();  // finishes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // done counts units so far (absolute); note is appended, e.g. "loss 2.31". Cheap to call often: draws at most 10 times a
  // second on a terminal, once in 5 s elsewhere.
  void update(std::uint64_t done, const std::string& note = {});
  void finish(const std::string& note = {});

 private:
  void draw(bool last);

  std::string title_, unit_, note_;
  std::uint64_t total_, done_ = 0, first_ = 0;
  bool started_ = false, finished_ = false, terminal_;
  std::chrono::steady_clock::time_point start_, drawn_;
};

// "1.77 M", "512", "6.9 k": three significant digits. "1.2 GiB", "812 MiB". "1:02:03", "0:07".
std::string human_count(double value);
std::string human_bytes(double bytes);
std::string human_time(double seconds);

}  // namespace graft
