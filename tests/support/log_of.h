// What is logged while something runs.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/temp_dir.h"

namespace graft::testing {

// What `run` writes to stderr, which it may not throw out of.
template <class Run>
std::string log_of(const Run& run) {
  const TempDir dir;
  const std::string file = (dir / "log").string();
  const int before = ::dup(STDERR_FILENO), to = ::open(file.c_str(), O_CREAT | O_WRONLY, 0600);
  ::dup2(to, STDERR_FILENO);
  run();
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(to);
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace graft::testing
