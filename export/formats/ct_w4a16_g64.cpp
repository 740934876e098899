// A merged Hugging Face directory with linears in int4, one scale for every 64 columns of a row (W4A16).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w4a16_g64;
const Exporter ct_w4a16_g64 = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::packed, .bits = 4, .group = 64, .symmetric = true}, .activations = false}>(
    "ct-w4a16-g64", "merged model as a compressed-tensors directory, linears in int4 by groups of 64 (W4A16)");

}  // namespace graft::exports
