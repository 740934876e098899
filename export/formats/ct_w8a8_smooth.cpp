// A merged Hugging Face directory with linears in int8, to be served with activations in int8, whose outliers SmoothQuant has
// moved into the weights (W8A8).
#include "export/compressed_model.h"

namespace graft::exports {

extern const Exporter ct_w8a8_smooth;
const Exporter ct_w8a8_smooth = compressed_exporter<CompressedTarget{
    .scheme = {.format = model::CompressedFormat::integer, .bits = 8, .group = 0, .symmetric = true},
    .activations = true,
    .quantizer = Quantizer::smooth}>("ct-w8a8-smooth",
                                     "as ct-w8a8, outliers of the activations moved into the weights by SmoothQuant");

}  // namespace graft::exports
