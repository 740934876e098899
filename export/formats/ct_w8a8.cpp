// A merged Hugging Face directory with linears in int8, one scale per row, to be served with activations in int8 (W8A8).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w8a8;
const Exporter ct_w8a8 = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::integer, .bits = 8, .group = 0, .symmetric = true}, .activations = true}>(
    "ct-w8a8", "merged model as a compressed-tensors directory, linears and activations in int8 (W8A8)");

}  // namespace graft::exports
