// A merged Hugging Face directory with linears in int4, one scale and one zero point for every 128 columns of a row, its channels
// scaled by AWQ (W4A16_ASYM).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w4a16_asym_g128_awq;
const Exporter ct_w4a16_asym_g128_awq = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::packed, .bits = 4, .group = 128, .symmetric = false},
    .quantizer = Quantizer::awq}>("ct-w4a16-asym-g128-awq",
                                  "as ct-w4a16-asym-g128, channels scaled by AWQ for the training documents");

}  // namespace graft::exports
