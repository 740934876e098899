#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdlib>
#include <iostream>

#include "cli/command.h"
#include "core/stop.h"

int main(int argc, char** argv) {
  umask(077);  // corpora, adapters and reports are private
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);  // a core file would hold text of documents
  graft::install_signal_handlers();
  const int code = graft::cli::run_program(argc, argv);
  // All that matters is on disk or printed. LibTorch's destructors would take a tenth of a second and free what ends here anyway.
  std::cout.flush();
  std::_Exit(code);
}
