#include "cli/engine.h"

#include <dlfcn.h>
#include <malloc.h>

#include <cstdlib>

#include "core/error.h"

namespace graft::cli {

void* engine_symbol(const char* name) {
  static void* const library = [] {
    // OpenMP's threads wait for each other by spinning for milliseconds, which makes a run beside other programs many times
    // slower; after a fraction of a millisecond they shall sleep. Read by the library when it is loaded.
    setenv("GOMP_SPINCOUNT", "20000", /*overwrite=*/0);
    // Memory of one step serves the next: returning it to the system costs a page fault for every 4 KiB of every step.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);  // few, large pieces for kernels/cpu/huge_pages.h
    void* opened = dlopen("libgraft_engine.so", RTLD_NOW | RTLD_LOCAL);
    if (opened == nullptr) throw MachineError(cat("cannot load the engine beside this program: ", dlerror()));
    return opened;
  }();
  void* const symbol = dlsym(library, name);
  if (symbol == nullptr) throw MachineError(cat("libgraft_engine.so is of another version: it lacks ", name));
  return symbol;
}

}  // namespace graft::cli
