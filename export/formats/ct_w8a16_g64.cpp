// A merged Hugging Face directory with linears in int8, one scale for every 64 columns of a row (W8A16).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w8a16_g64;
const Exporter ct_w8a16_g64 = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::packed, .bits = 8, .group = 64, .symmetric = true}, .activations = false}>(
    "ct-w8a16-g64", "merged model as a compressed-tensors directory, linears in int8 by groups of 64 (W8A16)");

}  // namespace graft::exports
