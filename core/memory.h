// Memory of this process, as the kernel counts it.
#pragma once

#include <cstdint>

namespace graft {

// Bytes: the most that was resident since the program began. VmHWM of /proc/self/status, for getrusage() also counts what the
// process was before exec. 0 when the kernel does not say.
std::uint64_t peak_memory();

}  // namespace graft
