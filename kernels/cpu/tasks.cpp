#include "kernels/cpu/tasks.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "kernels/cpu/threads.h"

namespace graft::kernels::cpu {

void for_each_task(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  std::atomic<std::int64_t> next = 0;
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), count);
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    take_place();
    for (std::int64_t worker = begin; worker < end; ++worker)
      for (std::int64_t i = next++; i < count; i = next++) task(i);
  });
}

void for_each_own_task(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), count);
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    take_place();
    for (std::int64_t i = begin * count / threads; i < end * count / threads; ++i) task(i);
  });
}

}  // namespace graft::kernels::cpu
