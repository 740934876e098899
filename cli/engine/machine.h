// What this machine is, read from the kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace graft::cli {

std::string processor_name();  // "AMD EPYC 7R13 Processor"
int processor_count();         // threads this process may use
std::vector<std::string>
processor_extensions();                // of AVX2, FMA, F16C, AVX-512, AVX-512 BF16, AVX-512 VNNI, AMX BF16: those it has
std::uint64_t total_memory();          // bytes
std::string transparent_huge_pages();  // "always", "madvise", "never" or "unknown"
std::string nvidia_driver();           // version, or empty when no driver is loaded

}  // namespace graft::cli
