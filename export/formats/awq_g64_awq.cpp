// A merged Hugging Face directory with linears in int4, scale and zero point for every 64 columns of a row, in AWQ's layout,
// scaled by AWQ.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter awq_g64_awq;
const Exporter awq_g64_awq = int4_exporter<Int4Target{.awq = true, .group = 64, .quantizer = Quantizer::awq}>(
    "awq-g64-awq", "merged model as a Hugging Face directory, linears in int4 by groups of 64, scaled by AWQ (AWQ's layout)");

}  // namespace graft::exports
