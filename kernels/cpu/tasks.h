#pragma once

#include <cstdint>
#include <functional>

namespace graft::kernels::cpu {

// Runs task(0) ... task(count - 1), each once; whichever thread is free takes the next. Results must not depend on who.
void for_each_task(std::int64_t count, const std::function<void(std::int64_t)>& task);

}  // namespace graft::kernels::cpu
