// The program under test as its user meets it: a process of its own with its streams, signals and a clock.
//
//   const Outcome done = run_program({"train", "-c", "run.yaml"}, {.directory = dir});
//   Process process({"run", "-c", "run.yaml"}, {.directory = dir});
//   process.wait_for("[train]");  process.signal(SIGTERM);  process.finish().code == 143
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace graft::testing {

struct Outcome {
  int code = -1;         // 128 + signal when it was killed by one
  std::string out, err;  // terminal: err holds what the terminal got
  double seconds = 0;
};

struct Launch {
  std::filesystem::path directory = ".";
  std::map<std::string, std::string> environment = {};  // beside the test's own
  std::string input = {};                               // stdin
  bool terminal = false;                                // stderr is a terminal
  std::vector<std::string> before = {};                 // a command to run it under, e.g. strace
};

class Process {
 public:
  Process(const std::vector<std::string>& arguments, const Launch& launch = {}) : start_(std::chrono::steady_clock::now()) {
    int in[2], out[2], err[2];
    open_pipe(in);
    open_pipe(out);
    if (launch.terminal)
      open_terminal(err);
    else
      open_pipe(err);
    std::vector<std::string> words = launch.before;
    words.push_back(GRAFT_PROGRAM);
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    child_ = ::fork();
    if (child_ < 0) throw std::runtime_error("cannot fork");
    if (child_ == 0) {
      ::setpgid(0, 0);  // a signal to the group reaches what it runs under too
      if (::chdir(launch.directory.c_str()) != 0) ::_exit(126);
      for (const auto& [name, value] : launch.environment) ::setenv(name.c_str(), value.c_str(), 1);
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::dup2(err[1], 2);
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
    ::setpgid(child_, child_);
    for (const int theirs : {in[0], out[1], err[1]}) ::close(theirs);
    out_ = out[0];
    err_ = err[0];
    if (!launch.input.empty() && ::write(in[1], launch.input.data(), launch.input.size()) < 0)
      throw std::runtime_error("cannot write");
    ::close(in[1]);
  }
  ~Process() {
    if (!ended_) {
      ::kill(-child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(out_);
    ::close(err_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void signal(int number) const { ::kill(child_, number); }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  // Until stderr (or stdout) holds the text; false when the process ends or the time is up before.
  bool wait_for(const std::string& text, double limit = 60) {
    const double end = seconds() + limit;
    while (result_.err.find(text) == std::string::npos && result_.out.find(text) == std::string::npos)
      if (seconds() > end || !read_some(50)) return false;
    return true;
  }
  // The end of the process; one that takes longer than `limit` seconds is killed (code 137).
  Outcome finish(double limit = 120) {
    const double end = seconds() + limit;
    while (read_some(50))
      if (seconds() > end) ::kill(-child_, SIGKILL);
    int status = 0;
    ::waitpid(child_, &status, 0);
    ended_ = true;
    result_.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    result_.seconds = seconds();
    return result_;
  }

 private:
  static void open_pipe(int ends[2]) {
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
  }
  static void open_terminal(int ends[2]) {
    ends[0] = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends[0] < 0 || ::grantpt(ends[0]) != 0 || ::unlockpt(ends[0]) != 0) throw std::runtime_error("cannot make a terminal");
    ends[1] = ::open(::ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  // False when both streams have ended.
  bool read_some(int milliseconds) {
    pollfd polled[2] = {{out_open_ ? out_ : -1, POLLIN, 0}, {err_open_ ? err_ : -1, POLLIN, 0}};
    if (::poll(polled, 2, milliseconds) > 0) {
      if (polled[0].revents) out_open_ = take(out_, result_.out);
      if (polled[1].revents) err_open_ = take(err_, result_.err);
    }
    return out_open_ || err_open_;
  }
  static bool take(int descriptor, std::string& text) {
    char block[4096];
    const ssize_t got = ::read(descriptor, block, sizeof block);  // a terminal whose other side is closed gives EIO
    if (got > 0) text.append(block, static_cast<std::size_t>(got));
    return got > 0;
  }

  std::chrono::steady_clock::time_point start_;
  pid_t child_ = -1;
  int out_ = -1, err_ = -1;
  bool out_open_ = true, err_open_ = true, ended_ = false;
  Outcome result_;
};

inline Outcome run_program(const std::vector<std::string>& arguments, const Launch& launch = {}) {
  return Process(arguments, launch).finish();
}

// A repetition count that a person may raise: GRAFT_KILLS=1000 ctest ...
inline int repetitions(const char* variable, int standard) {
  const char* text = std::getenv(variable);
  return text ? std::max(1, std::atoi(text)) : standard;
}

}  // namespace graft::testing
