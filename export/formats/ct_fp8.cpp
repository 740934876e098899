// A merged Hugging Face directory with linears in fp8, one scale per row, to be served with activations in fp8 (FP8_DYNAMIC).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_fp8;
const Exporter ct_fp8 = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::floating, .bits = 8, .group = 0, .symmetric = true}, .activations = true}>(
    "ct-fp8", "merged model as a compressed-tensors directory, linears and activations in fp8 (FP8_DYNAMIC)");

}  // namespace graft::exports
