// As gguf-q4_0, rounded with importance weights from the training documents (llama.cpp's imatrix).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_0_imatrix;
const Exporter gguf_q4_0_imatrix = gguf_exporter<GgufFileType::q4_0, Quantizer::importance>(
    "gguf-q4_0-imatrix", "as gguf-q4_0, rounded with importance weights from the training documents");

}  // namespace graft::exports
