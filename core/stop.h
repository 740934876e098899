// Asking the program to stop. SIGTERM, SIGINT, SIGUSR1 (batch systems, before they take the machine) and SIGHUP set a flag that
// every long loop polls; a second signal ends the process at once. A mapped file that cannot be read any more ends it with exit
// code 4 and the file's name. A reader of its output that goes away (SIGPIPE) does not end it. Long loops call
// throw_if_stopped(), decoders in each layer; the trainer writes a checkpoint before it lets Interrupted pass.
#pragma once

#include <stop_token>

namespace graft {

void install_signal_handlers();                          // called once by main()
int stop_requested();                                    // the signal's number, or 0
void throw_if_stopped();                                 // throws Interrupted(stop_requested()) when a signal arrived
void throw_if_stopped(const std::stop_token& given_up);  // or Interrupted(0) when the work's result is not wanted any more

}  // namespace graft
