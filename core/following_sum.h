// The sha256 of a file while it is being written, on a thread of its own: one sum keeps one processor busy for as long as a disk
// takes to write, and what was just written is still in memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "core/descriptor.h"

namespace graft {

class FollowingSum {
 public:
  explicit FollowingSum(const fs::path& file);  // which exists
  // All bytes before `position` are in the file and stay as they are.
  void reach(std::uint64_t position);
  // Of the bytes before the last position that was reached, once they are summed; MachineError when they cannot be read.
  std::string finish();

 private:
  void run(const std::stop_token& given_up);
  fs::path file_;
  Descriptor descriptor_;
  Sha256 hash_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::uint64_t reached_ = 0;
  bool complete_ = false;
  std::exception_ptr failure_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace graft
