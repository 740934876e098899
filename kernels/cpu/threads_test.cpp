#include "kernels/cpu/threads.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "kernels/cpu/tasks.h"
#include "tests/support/catch.h"

namespace graft::kernels::cpu {
namespace {

cpu_set_t processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  return set;
}

std::vector<cpu_set_t> team(int threads) {
  std::vector<cpu_set_t> sets(static_cast<std::size_t>(threads));
#pragma omp parallel num_threads(threads)
  sets[static_cast<std::size_t>(omp_get_thread_num())] = processors();
  return sets;
}

// Each has one processor, no two the same.
bool apart(const std::vector<cpu_set_t>& sets) {
  std::set<int> seen;
  for (const cpu_set_t& set : sets)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set) && !seen.insert(i).second) return false;
  return seen.size() == sets.size();
}

}  // namespace

TEST_CASE("threads of a team have a processor each, those too that are made after a smaller team", "[cpu]") {
  const cpu_set_t before = processors();
  const int threads = CPU_COUNT(&before);
  if (threads < 2 || omp_get_max_threads() != threads || std::getenv("OMP_PROC_BIND") != nullptr) {
    WARN("not as many threads as processors, or fewer than two: nothing is placed");
    return;
  }
  {
    const ThreadPlaces places;
    CHECK(apart(team(threads)));
    team(threads - 1);                       // two of two are kept, and one of three or more ends
    omp_pause_resource_all(omp_pause_soft);  // here all end
    for_each_task(threads, [](std::int64_t) {});
    CHECK(apart(team(threads)));
  }
  for_each_task(threads, [](std::int64_t) {});
  for (const cpu_set_t& set : team(threads)) CHECK(CPU_EQUAL(&set, &before));
}

TEST_CASE("each task runs once, and a thread that is done helps the others", "[cpu]") {
  for (const int count : {0, 1, 2, 3, 7, 64, 1001}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
    for_each_task(count, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
    CHECK(std::all_of(runs.begin(), runs.end(), [](const std::atomic<int>& n) { return n == 1; }));
  }
  if (omp_get_max_threads() < 2 || omp_get_thread_limit() < 2) return;
  std::atomic<int> others = 0;  // the first task waits for all others, some of which are its own thread's
  int seen = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for_each_task(16, [&](std::int64_t i) {
    if (i > 0) ++others;
    while (i == 0 && (seen = others) < 15 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  CHECK(seen == 15);
}

}  // namespace graft::kernels::cpu
