// The two types that models compute in, and which of them this machine multiplies faster. Without AMX or AVX-512-BF16 a bf16
// product can take twenty times as long.
#pragma once

#include <c10/core/ScalarType.h>

namespace graft::model {

// Times one small product of each, once per process (some milliseconds). On equal terms bf16, which needs half the memory.
at::ScalarType fastest_compute_type();

const char* name_of(at::ScalarType type);  // "bf16" or "f32"

}  // namespace graft::model
