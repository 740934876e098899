// A merged Hugging Face directory with linears in int4, one scale for every 128 columns of a row, in GPTQ's layout.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter gptq_g128;
const Exporter gptq_g128 = int4_exporter<Int4Target{.awq = false, .group = 128, .quantizer = Quantizer::nearest}>(
    "gptq-g128",
    "merged model as a Hugging Face directory, linears in int4 by groups of 128, rounded to nearest (GPTQ's layout)");

}  // namespace graft::exports
