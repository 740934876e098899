#include "core/memory.h"

#include <fstream>
#include <string>

namespace graft {

std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (std::uint64_t kibibytes = 0; word == "VmHWM:" && status >> kibibytes) return kibibytes << 10;
  return 0;
}

}  // namespace graft
