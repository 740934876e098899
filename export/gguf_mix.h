// The type of each tensor in a GGUF model file (llama.cpp src/llama-quant.cpp; for the plain types also its converter).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/gguf.h"
#include "model/spec.h"

namespace graft::exports {

// general.file_type (llama.cpp include/llama.h, enum llama_ftype).
enum class GgufFileType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q8_0 = 7,
  q5_0 = 8,
  q5_1 = 9,
  q4_k_s = 14,
  q4_k_m = 15,
  q5_k_m = 17,
  q6_k = 18,
  bf16 = 32,
};

// `name` is GGUF's; `columns` the size of a row, `dimensions` those of one expert.
//
//   F32          vectors, biases, norms, the experts' router
//   the head     (the embedding when tied to it) Q6_K in every quantized file but Q8_0
//   Q4_K_S       attn_v of the first four layers and ffn_down of the first eighth: Q5_K
//   Q4_K_M, Q5_K_M   attn_v (attn_qkv) and ffn_down of the first and last eighth and of every third layer between: Q6_K
//   importance   (an -imatrix file) ffn_down of the first eighth of the layers: Q4_1 in Q4_0 files, Q5_1 in Q5_0 files
//   8 experts    attn_k and attn_v Q8_0; attn_output Q5_K in Q4_K files
//   a row that is no multiple of the block: Q4_K -> Q5_0, Q5_K -> Q5_1, Q6_K -> Q8_0; no multiple of 32 either: F16
GgmlType gguf_tensor_type(GgufFileType file, const model::ModelSpec& spec, const std::string& name, std::int64_t columns,
                          std::size_t dimensions, bool importance = false);

}  // namespace graft::exports
