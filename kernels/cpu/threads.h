// Where the threads of a training run are.
#pragma once

#include <sched.h>

#include <vector>

namespace graft::kernels::cpu {

// While it lives, each thread of the team stays on a processor of its own. Threads that spin while they wait for each other are
// now and then all put on one processor (seen with autogroups and a second busy session: a tenth of the speed for minutes). Does
// nothing when the team is smaller than the machine, since other programs may do the same, or when OMP_PROC_BIND is set.
class ThreadPlaces {
 public:
  ThreadPlaces();
  ~ThreadPlaces();
  ThreadPlaces(const ThreadPlaces&) = delete;
  ThreadPlaces& operator=(const ThreadPlaces&) = delete;

 private:
  cpu_set_t before_;
  bool placed_ = false;
};

// The calling thread's own, once, while there are places. for_each_task calls it: OpenMP ends the threads that a smaller team
// leaves over, and the ones it makes later start on the one processor of the thread that makes them.
void take_place();

}  // namespace graft::kernels::cpu
