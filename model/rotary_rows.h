// The order of the rows of q and k (and of their biases and lora_B): llama.cpp rotates neighbours, transformers the two halves of
// a head. rows: (heads d, ...), of any type.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace graft::model {

at::Tensor interleaved_rows(const at::Tensor& rows, std::int64_t heads);  // (heads, 2, d/2, ...) -> (heads, d/2, 2, ...): to GGUF
at::Tensor separated_rows(const at::Tensor& rows, std::int64_t heads);    // back again

}  // namespace graft::model
