// A merged Hugging Face directory with linears in int4, one scale for every 64 columns of a row, in GPTQ's layout, rounded by
// GPTQ.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter gptq_g64_gptq;
const Exporter gptq_g64_gptq = int4_exporter<Int4Target{.awq = false, .group = 64, .quantizer = Quantizer::gptq}>(
    "gptq-g64-gptq",
    "merged model as a Hugging Face directory, linears in int4 by groups of 64, rounded by GPTQ (GPTQ's layout)");

}  // namespace graft::exports
