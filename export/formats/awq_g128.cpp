// A merged Hugging Face directory with linears in int4, scale and zero point for every 128 columns of a row, in AWQ's layout.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter awq_g128;
const Exporter awq_g128 = int4_exporter<Int4Target{.awq = true, .group = 128, .quantizer = Quantizer::nearest}>(
    "awq-g128", "merged model as a Hugging Face directory, linears in int4 by groups of 128, rounded to nearest (AWQ's layout)");

}  // namespace graft::exports
