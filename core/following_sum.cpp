#include "core/following_sum.h"

#include <algorithm>
#include <cerrno>

#include "core/error.h"

namespace graft {

FollowingSum::FollowingSum(const fs::path& file)
    : file_(file), descriptor_(open_regular(file)), thread_([this](const std::stop_token& given_up) {
        try {
          run(given_up);
        } catch (...) {
          failure_ = std::current_exception();
        }
      }) {}

void FollowingSum::reach(std::uint64_t position) {
  {
    const std::lock_guard lock(mutex_);
    reached_ = std::max(reached_, position);
  }
  changed_.notify_one();
}

std::string FollowingSum::finish() {
  {
    const std::lock_guard lock(mutex_);
    complete_ = true;
  }
  changed_.notify_one();
  thread_.join();
  if (failure_) std::rethrow_exception(failure_);
  return hash_.hex();
}

void FollowingSum::run(const std::stop_token& given_up) {
  std::string buffer(1 << 20, '\0');
  for (std::uint64_t summed = 0; !given_up.stop_requested();) {
    std::uint64_t end;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, given_up, [&] { return reached_ > summed || complete_; });
      end = reached_;
      if (summed == end) return;
    }
    while (summed < end && !given_up.stop_requested()) {
      const std::size_t got =
          read_some(descriptor_.get(), buffer.data(), std::min<std::uint64_t>(buffer.size(), end - summed), file_);
      if (got == 0) throw_machine_error("read", file_, EIO);  // somebody cut it off
      hash_.update(buffer.data(), got);
      summed += got;
    }
  }
}

}  // namespace graft
