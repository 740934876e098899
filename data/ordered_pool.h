// Work done on several threads, with the results handed back in the order in which it was given.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace graft::data {

template <class Result>
class OrderedPool {
 public:
  explicit OrderedPool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  }
  // Work that no thread has begun is thrown away.
  ~OrderedPool() {
    {
      std::lock_guard lock(mutex_);
      tasks_.clear();
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  OrderedPool(const OrderedPool&) = delete;
  OrderedPool& operator=(const OrderedPool&) = delete;

  void give(std::function<Result()> work) {
    std::packaged_task<Result()> task(std::move(work));
    results_.push_back(task.get_future());
    {
      std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  bool empty() const { return results_.empty(); }
  std::size_t size() const { return results_.size(); }  // given and not taken
  // Waits for the oldest result; throws what its work threw.
  Result take() {
    std::future<Result> result = std::move(results_.front());
    results_.pop_front();
    return result.get();
  }

 private:
  void run() {
    while (true) {
      std::packaged_task<Result()> task;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        if (stopping_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<std::packaged_task<Result()>> tasks_;
  std::deque<std::future<Result>> results_;  // of the giving thread
  std::vector<std::thread> threads_;
};

}  // namespace graft::data
