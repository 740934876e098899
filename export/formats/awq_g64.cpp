// A merged Hugging Face directory with linears in int4, scale and zero point for every 64 columns of a row, in AWQ's layout.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter awq_g64;
const Exporter awq_g64 = int4_exporter<Int4Target{.awq = true, .group = 64, .quantizer = Quantizer::nearest}>(
    "awq-g64", "merged model as a Hugging Face directory, linears in int4 by groups of 64, rounded to nearest (AWQ's layout)");

}  // namespace graft::exports
