// Host memory as the simulator's device memory: what libgraft_simt.so exports besides the launchers, so that the program's
// tensors can be given to kernels. The memory keeps what it holds; accesses beyond it and races within it are faults, as in
// simt.h.
#pragma once

#include <cstddef>

// Until it is taken back. `granule` is the size of an element; memory that is lent already must not overlap.
extern "C" void graft_simt_lend(const void* memory, std::size_t bytes, std::size_t granule);
extern "C" void graft_simt_take_back(const void* memory);
