// A merged Hugging Face directory with linears in int4, one scale for every 128 columns of a row, rounded by GPTQ (W4A16).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w4a16_g128_gptq;
const Exporter ct_w4a16_g128_gptq = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::packed, .bits = 4, .group = 128, .symmetric = true},
    .quantizer = Quantizer::gptq}>("ct-w4a16-g128-gptq", "as ct-w4a16-g128, rounded by GPTQ for the training documents");

}  // namespace graft::exports
