// A merged Hugging Face directory with linears in int4, one scale for every 32 columns of a row, in GPTQ's layout.
#include "export/int4_model.h"

namespace graft::exports {

extern const Exporter gptq_g32;
const Exporter gptq_g32 =
    gptq_exporter<32>("gptq-g32", "merged model as a Hugging Face directory, linears in int4 by groups of 32 (GPTQ's layout)");

}  // namespace graft::exports
