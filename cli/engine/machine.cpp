#include "cli/engine/machine.h"

#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace graft::cli {
namespace {

std::string text_of(const char* file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What follows "name<spaces>:" in a file of such lines.
std::string value_of(const char* file, const std::string& name) {
  std::istringstream in(text_of(file));
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, name.size(), name) != 0) continue;
    if (line.find_first_not_of(" \t", name.size()) != colon) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

std::string processor_name() { return value_of("/proc/cpuinfo", "model name"); }

int processor_count() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

std::vector<std::string> processor_extensions() {
  const std::string flags = " " + value_of("/proc/cpuinfo", "flags") + " ";
  std::vector<std::string> found;
  for (const auto& [flag, name] : {std::pair{"avx2", "AVX2"},
                                   {"fma", "FMA"},
                                   {"f16c", "F16C"},
                                   {"avx512f", "AVX-512"},
                                   {"avx512_bf16", "AVX-512 BF16"},
                                   {"avx512_vnni", "AVX-512 VNNI"},
                                   {"amx_bf16", "AMX BF16"}})
    if (flags.find(std::string(" ") + flag + " ") != std::string::npos) found.emplace_back(name);
  return found;
}

std::uint64_t total_memory() {
  return static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

std::string transparent_huge_pages() {
  const std::string text = text_of("/sys/kernel/mm/transparent_hugepage/enabled");
  const auto begin = text.find('['), end = text.find(']');
  return begin == std::string::npos || end == std::string::npos ? "unknown" : text.substr(begin + 1, end - begin - 1);
}

std::string nvidia_driver() {
  const std::string text =
      text_of("/proc/driver/nvidia/version");  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  ..."
  const auto at = text.find("Kernel Module");
  if (at == std::string::npos) return "";
  const auto begin = text.find_first_of("0123456789", at);
  return begin == std::string::npos ? "" : text.substr(begin, text.find(' ', begin) - begin);
}

}  // namespace graft::cli
