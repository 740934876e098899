// A merged Hugging Face directory with linears in int4, one scale and one zero point for every 64 columns of a row (W4A16_ASYM).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w4a16_asym_g64;
const Exporter ct_w4a16_asym_g64 = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::packed, .bits = 4, .group = 64, .symmetric = false}, .activations = false}>(
    "ct-w4a16-asym-g64",
    "merged model as a compressed-tensors directory, linears in int4 with zero points by groups of 64 (W4A16_ASYM)");

}  // namespace graft::exports
