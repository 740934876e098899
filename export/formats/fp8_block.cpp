// A merged Hugging Face directory with linears in fp8, one scale for each block of 128 x 128 (quant_method fp8).
#include "export/fp8_model.h"

namespace graft::exports {

extern const Exporter fp8_block;
const Exporter fp8_block = quantized_exporter<fp8_block_format, fp8_block_refusal>(
    "fp8-block", "merged model as a Hugging Face directory, linears in fp8 by blocks of 128 x 128; activations in fp8",
    "vLLM, SGLang, TensorRT-LLM, transformers");

}  // namespace graft::exports
