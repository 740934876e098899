// Runs a command under tests/support/fault_preload.c, which makes the k-th call that changes files below a directory
// fail, or under memory_preload.c, where the k-th allocation does.
//
//   const long calls = run_with_fault(command, dir, 0, "ENOSPC").calls;
//   for (long k = 1; k <= calls; ++k) { ... run_with_fault(command, dir, k, "ENOSPC") ... }
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

struct FaultResult {
  int exit_code;       // 128 + signal when it was killed
  long calls;          // counted calls that it made
  std::string output;  // stdout and stderr
};

// `command` is a line for sh; settings: of the preloaded library, its file for the count aside.
inline FaultResult run_preloaded(const std::string& command, const std::string& library, const std::string& settings) {
  namespace fs = std::filesystem;
  const fs::path work = fs::temp_directory_path() / ("graft-fault-" + std::to_string(getpid()));
  fs::create_directories(work);
  const fs::path count = work / "count", output = work / "output";
  fs::remove(count);
  // A sanitizer's runtime wants to be the first library; it is told that ours may be.
  std::ofstream(work / "run.sh") << "export " << settings << " GRAFT_FAULT_COUNT='" << count.string()
                                 << "' ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 LD_PRELOAD='" << library << "'; exec "
                                 << command << " > '" << output.string() << "' 2>&1";
  const int status = std::system(("exec sh '" + (work / "run.sh").string() + "'").c_str());
  FaultResult result{WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), 0, ""};
  std::ifstream(count) >> result.calls;
  std::ostringstream text;
  text << std::ifstream(output).rdbuf();
  result.output = text.str();
  return result;
}

// `dir` must exist. at 0: nothing fails. Names of faults: see fault_preload.c.
inline FaultResult run_with_fault(const std::string& command, const std::filesystem::path& dir, long at, const std::string& fault,
                                  bool sticky = false) {
  std::ostringstream settings;
  settings << "GRAFT_FAULT_DIR='" << std::filesystem::canonical(dir).string() << "' GRAFT_FAULT_AT=" << at
           << " GRAFT_FAULT_ERRNO=" << fault << " GRAFT_FAULT_STICKY=" << sticky;
  return run_preloaded(command, GRAFT_FAULT_PRELOAD, settings.str());
}

// Allocations count from the first opening of a file whose path holds `from` on.
inline FaultResult run_with_memory_fault(const std::string& command, const std::string& from, long at) {
  std::ostringstream settings;
  settings << "GRAFT_FAULT_FROM='" << from << "' GRAFT_FAULT_AT=" << at;
  return run_preloaded(command, GRAFT_MEMORY_PRELOAD, settings.str());
}
