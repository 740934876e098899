// Work shared by all threads, whoever is free taking the next piece.
#pragma once

#include <cstdint>
#include <functional>

namespace graft::kernels::cpu {

// Runs task(0) ... task(count - 1), each once. Results must not depend on which thread ran which.
void for_each_task(std::int64_t count, const std::function<void(std::int64_t)>& task);
// The same, each thread the same tasks whenever there are as many: what they left in its caches is there.
void for_each_own_task(std::int64_t count, const std::function<void(std::int64_t)>& task);

}  // namespace graft::kernels::cpu
