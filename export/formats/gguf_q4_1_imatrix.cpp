// As gguf-q4_1, rounded with importance weights from the training documents (llama.cpp's imatrix).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_1_imatrix;
const Exporter gguf_q4_1_imatrix = gguf_exporter<GgufFileType::q4_1, Quantizer::importance>(
    "gguf-q4_1-imatrix", "as gguf-q4_1, rounded with importance weights from the training documents");

}  // namespace graft::exports
