// Typed failures. The user's fault, the machine's fault and a stop request are exceptions that main() turns into an exit
// code, as is a directory that another process holds (75, DirectoryLock); an expected absence is a return value; our own fault is
// an assert. Nothing below main() exits.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace graft {

enum ExitCode : int { kDone = 0, kUserFault = 2, kGateRefused = 3, kMachineFault = 4 };

// Joins its arguments as a stream would: cat("rank ", 16, " is too large").
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  out.exceptions(std::ios::badbit);  // without memory a stream says nothing and keeps what it has
  (out << ... << args);
  return out.str();
}

// 'name' for a message: in quotes, control bytes and invalid UTF-8 as \\xNN, cut after 80 bytes. For every name that comes out of
// a file.
std::string quote(std::string_view name);

class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& what) : std::runtime_error(what), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// The input is at fault; exit 2. The message says what, where, the two values that disagree, and what to do next.
struct UserError : Error {
  explicit UserError(const std::string& what) : Error(kUserFault, what) {}
};
struct ConfigError : UserError {  // a config file or command line
  using UserError::UserError;
};
struct DataError : UserError {  // documents, corpus, or an adapter that does not fit
  using UserError::UserError;
};
struct FormatError : UserError {  // a malformed or hostile file
  using UserError::UserError;
};
struct UnsupportedError : UserError {  // well-formed, but not something this program can do
  using UserError::UserError;
};
struct GateError : Error {  // all went well, and the result is not good enough by the user's own measure; exit 3
  explicit GateError(const std::string& what) : Error(kGateRefused, what) {}
};
struct MachineError : Error {  // disk, memory, device; exit 4
  explicit MachineError(const std::string& what) : Error(kMachineFault, what) {}
};
struct Interrupted : Error {  // a signal; exit 128 + signal
  explicit Interrupted(int signal) : Error(128 + signal, cat("stopped by signal ", signal)) {}
};

}  // namespace graft
