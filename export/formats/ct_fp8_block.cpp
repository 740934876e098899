// A merged Hugging Face directory with linears in fp8, one scale for each block of 128 x 128 (compressed-tensors FP8_BLOCK).
#include "export/fp8_model.h"

namespace graft::exports {

extern const Exporter ct_fp8_block;
const Exporter ct_fp8_block = quantized_exporter<compressed_fp8_block_format, fp8_block_refusal>(
    "ct-fp8-block", "merged model as a compressed-tensors directory, linears in fp8 by blocks of 128 x 128 (FP8_BLOCK)",
    "vLLM, TensorRT-LLM, transformers with compressed-tensors");

}  // namespace graft::exports
