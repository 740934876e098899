// A merged Hugging Face directory with linears in int4, one scale for every 128 columns of a row, in GPTQ's layout, rounded by
// GPTQ.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter gptq_g128_gptq;
const Exporter gptq_g128_gptq = int4_exporter<Int4Target{.awq = false, .group = 128, .quantizer = Quantizer::gptq}>(
    "gptq-g128-gptq",
    "merged model as a Hugging Face directory, linears in int4 by groups of 128, rounded by GPTQ (GPTQ's layout)");

}  // namespace graft::exports
