// As gguf-q5_1, rounded with importance weights from the training documents (llama.cpp's imatrix).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q5_1_imatrix;
const Exporter gguf_q5_1_imatrix = gguf_exporter<GgufFileType::q5_1, Quantizer::importance>(
    "gguf-q5_1-imatrix", "as gguf-q5_1, rounded with importance weights from the training documents");

}  // namespace graft::exports
