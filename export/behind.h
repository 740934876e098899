// One task at a time on a thread of its own, so that a piece is hashed and written while the next is computed.
#pragma once

#include <functional>
#include <future>

namespace graft::exports {

class Behind {
 public:
  // Waits for the task before, and throws what it threw.
  void run(std::function<void()> task) {
    wait();
    running_ = std::async(std::launch::async, std::move(task));
  }
  void wait() {
    if (running_.valid()) running_.get();
  }

 private:
  std::future<void> running_;  // whose destructor waits too
};

}  // namespace graft::exports
