#include "core/stop.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/file.h"

namespace graft {
namespace {

// A signal handler can reach nothing but static storage.
std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free);

void say(const char* text) { [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text)); }

void on_signal(int signal) {
  int none = 0;
  if (!received.compare_exchange_strong(none, signal)) _exit(128 + signal);
  const int error_number = errno;  // of whatever was interrupted
  static constexpr char note[] = "\nstopping cleanly; a second signal ends it at once\n";
  say(note);  // write() is one of the few calls allowed here
  errno = error_number;
}

void on_bus_error(int, siginfo_t* info, void*) {
  const char* const file = mapped_file_at(info->si_addr);
  say("\ngraft: cannot read ");
  say(file != nullptr ? file : "memory of a file");
  say(": the disk failed, or the file was cut short while it was in use; checkpoints and sealed documents are as they were\n");
  _exit(kMachineFault);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // libraries below us do not all retry an interrupted call
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  struct sigaction bus = {};
  bus.sa_sigaction = on_bus_error;
  bus.sa_flags = SA_SIGINFO;
  sigemptyset(&bus.sa_mask);
  sigaction(SIGBUS, &bus, nullptr);
  struct sigaction hangup = {};  // a terminal that is closed stops the program too, unless nohup said otherwise
  if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);  // nobody reads the progress any more: no reason to lose the work; results on stdout are checked
}

int stop_requested() { return received.load(std::memory_order_relaxed); }

void throw_if_stopped() {
  if (const int signal = stop_requested()) throw Interrupted(signal);
}

void throw_if_stopped(const std::stop_token& given_up) {
  throw_if_stopped();
  if (given_up.stop_requested()) throw Interrupted(0);
}

}  // namespace graft
