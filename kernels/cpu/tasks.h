// Work shared by all threads.
#pragma once

#include <cstdint>
#include <functional>

namespace graft::kernels::cpu {

// Runs task(0) ... task(count - 1), each once. Each thread has a share of its own, neighbours and in order, the same whenever
// there are as many: what it left in its caches is there. Who is done helps the others. Results must not depend on which thread
// ran which.
void for_each_task(std::int64_t count, const std::function<void(std::int64_t)>& task);

}  // namespace graft::kernels::cpu
