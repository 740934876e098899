// Plain loops, vectorised by the compiler for three instruction sets; the right one is chosen when the program is loaded.
// GRAFT_SIMD goes before a function, `#pragma omp simd` before its loops; what it calls is inlined or stays as it is.
#pragma once

#define GRAFT_SIMD [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
