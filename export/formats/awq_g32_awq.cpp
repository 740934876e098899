// A merged Hugging Face directory with linears in int4, scale and zero point for every 32 columns of a row, in AWQ's layout,
// scaled by AWQ.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter awq_g32_awq;
const Exporter awq_g32_awq = int4_exporter<Int4Target{.awq = true, .group = 32, .quantizer = Quantizer::awq}>(
    "awq-g32-awq", "merged model as a Hugging Face directory, linears in int4 by groups of 32, scaled by AWQ (AWQ's layout)");

}  // namespace graft::exports
