#include "kernels/cpu/threads.h"

#include <ATen/Parallel.h>
#include <omp.h>

#include <atomic>
#include <cstdlib>

namespace graft::kernels::cpu {
namespace {

std::vector<int> places;         // of the threads of a team
std::atomic<int> generation{0};  // of the places; 0: there are none

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
  static int made = 0;
  places = list;
  generation.store(++made, std::memory_order_release);
#pragma omp parallel num_threads(threads)
  take_place();
  placed_ = true;
}

ThreadPlaces::~ThreadPlaces() {
  if (!placed_) return;
  generation.store(0, std::memory_order_release);
  const int threads = at::get_num_threads();
#pragma omp parallel num_threads(threads)
  sched_setaffinity(0, sizeof before_, &before_);
}

void take_place() {
  thread_local int taken = 0;
  const int now = generation.load(std::memory_order_acquire);
  if (now == 0 || now == taken) return;
  taken = now;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(places[static_cast<std::size_t>(omp_get_thread_num()) % places.size()], &one);
  sched_setaffinity(0, sizeof one, &one);  // when refused the thread stays where it was
}

}  // namespace graft::kernels::cpu
