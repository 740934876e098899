// A merged Hugging Face directory with linears in fp8, one scale for each linear (quant_method fp8).
#include "export/fp8_model.h"

namespace graft::exports {

extern const Exporter fp8;
const Exporter fp8 = quantized_exporter<fp8_format, fp8_refusal>(
    "fp8", "merged model as a Hugging Face directory, linears in fp8, one scale each; activations in fp8", "vLLM, SGLang");

}  // namespace graft::exports
