// Memory in pages of 2 MiB.
#pragma once

namespace graft::kernels::cpu {

// Asks the system for huge pages under what the heap grows by for tensors from now on. Weights are read from memory in every
// step: with pages of 4 KiB one core reads them at two thirds of the speed (docs/decisions/0027). Does nothing where the system
// grants none (/sys/kernel/mm/transparent_hugepage/enabled: never).
void use_huge_pages();

}  // namespace graft::kernels::cpu
