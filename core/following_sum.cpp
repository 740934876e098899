#include "core/following_sum.h"

#include <algorithm>
#include <cerrno>

#include "core/error.h"

namespace graft {

FollowingSum::FollowingSum(const fs::path& file, fs::path name)
    : name_(std::move(name)), descriptor_(open_regular(file)), thread_([this](const std::stop_token& given_up) {
        try {
          run(given_up);
        } catch (...) {
          failure_ = std::current_exception();
        }
      }) {}

void FollowingSum::written(std::uint64_t begin, std::uint64_t end) {
  if (begin == end) return;  // would take the place of what begins there
  {
    const std::lock_guard lock(mutex_);
    ahead_.emplace(begin, end);
    for (auto next = ahead_.begin(); next != ahead_.end() && next->first <= complete_; next = ahead_.erase(next))
      complete_ = std::max(complete_, next->second);
  }
  changed_.notify_one();
}

std::uint64_t FollowingSum::complete() const {
  const std::lock_guard lock(mutex_);
  return complete_;
}

std::string FollowingSum::finish(std::uint64_t size) {
  {
    const std::lock_guard lock(mutex_);
    complete_ = size;
    ended_ = true;
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
      changed_.wait(lock, given_up, [&] { return complete_ > summed || ended_; });
      end = complete_;
      if (summed == end) return;
    }
    while (summed < end && !given_up.stop_requested()) {
      const std::size_t got =
          read_some(descriptor_.get(), buffer.data(), std::min<std::uint64_t>(buffer.size(), end - summed), name_);
      if (got == 0) throw_machine_error("read", name_, EIO);  // somebody cut it off
      hash_.update(buffer.data(), got);
      summed += got;
    }
  }
}

}  // namespace graft
