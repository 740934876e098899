// A merged Hugging Face directory as NVIDIA's ModelOpt writes it: fp8, one scale for each row (FP8_PER_CHANNEL_PER_TOKEN).
#include "export/fp8_model.h"

namespace graft::exports {

extern const Exporter modelopt_fp8;
const Exporter modelopt_fp8 = quantized_exporter<modelopt_fp8_format, fp8_refusal>(
    "modelopt-fp8", "merged model as ModelOpt's unified directory, linears in fp8 by rows, activations by tokens",
    "TensorRT-LLM, vLLM");

}  // namespace graft::exports
