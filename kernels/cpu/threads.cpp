#include "kernels/cpu/threads.h"

#include <ATen/Parallel.h>
#include <omp.h>

#include <cstdlib>

namespace graft::kernels::cpu {
namespace {

std::vector<int> processors(const cpu_set_t& set) {
  std::vector<int> list;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) list.push_back(i);
  return list;
}

}  // namespace

ThreadPlaces::ThreadPlaces() {
  if (std::getenv("OMP_PROC_BIND") != nullptr || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
  const std::vector<int> list = processors(before_);
  const int threads = at::get_num_threads();
  if (threads < 2 || threads != static_cast<int>(list.size())) return;
  placed_ = true;
#pragma omp parallel num_threads(threads)
  {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(list[static_cast<std::size_t>(omp_get_thread_num())], &one);
    sched_setaffinity(0, sizeof one, &one);  // when refused the thread stays where it was
  }
}

ThreadPlaces::~ThreadPlaces() {
  if (!placed_) return;
  const int threads = at::get_num_threads();
#pragma omp parallel num_threads(threads)
  sched_setaffinity(0, sizeof before_, &before_);
}

}  // namespace graft::kernels::cpu
