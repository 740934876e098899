#include "kernels/cpu/tasks.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/cpu/threads.h"

namespace graft::kernels::cpu {
namespace {

struct alignas(64) Share {  // on a cache line of its own
  std::atomic<std::int64_t> next = 0;
  std::int64_t end = 0;
};

}  // namespace

void for_each_task(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), count);
  std::vector<Share> shares(static_cast<std::size_t>(threads));
  for (std::int64_t t = 0; t < threads; ++t) {
    Share& share = shares[static_cast<std::size_t>(t)];
    share.next = t * count / threads, share.end = (t + 1) * count / threads;
  }
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    take_place();
    for (std::int64_t worker = begin; worker < end; ++worker)
      for (std::int64_t t = 0; t < threads; ++t) {
        Share& share = shares[static_cast<std::size_t>((worker + t) % threads)];
        for (std::int64_t i = share.next++; i < share.end; i = share.next++) task(i);
      }
  });
}

}  // namespace graft::kernels::cpu
