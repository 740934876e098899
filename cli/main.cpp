#include <sys/resource.h>
#include <sys/stat.h>

#include "cli/command.h"
#include "core/stop.h"

int main(int argc, char** argv) {
  umask(077);                          // corpora, adapters and reports are private
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);       // a core file would hold text of documents
  graft::install_signal_handlers();
  return graft::cli::run_program(argc, argv);
}
