// The sha256 of a file while it is being written, on a thread of its own: one sum keeps one processor busy for as long as a disk
// takes to write, and what was just written is still in memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "core/descriptor.h"

namespace graft {

class FollowingSum {
 public:
  // Of `file`, which exists; `name` is what errors call it.
  FollowingSum(const fs::path& file, fs::path name);
  // These bytes are in the file and stay as they are. In any order, from any thread; what there is without a gap is summed.
  void written(std::uint64_t begin, std::uint64_t end);
  std::uint64_t complete() const;  // so many first bytes
  // Of the first `size` bytes, all of which are as they will be; MachineError when they cannot be read.
  std::string finish(std::uint64_t size);

 private:
  void run(const std::stop_token& given_up);
  fs::path name_;
  Descriptor descriptor_;
  Sha256 hash_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::uint64_t, std::uint64_t> ahead_;  // what is written behind a gap: begin, end
  std::uint64_t complete_ = 0;
  bool ended_ = false;
  std::exception_ptr failure_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace graft
