// A merged Hugging Face directory with linears in int4, one scale for every 32 columns of a row, in GPTQ's layout, rounded by
// GPTQ.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter gptq_g32_gptq;
const Exporter gptq_g32_gptq = int4_exporter<Int4Target{.awq = false, .group = 32, .quantizer = Quantizer::gptq}>(
    "gptq-g32-gptq",
    "merged model as a Hugging Face directory, linears in int4 by groups of 32, rounded by GPTQ (GPTQ's layout)");

}  // namespace graft::exports
