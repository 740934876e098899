// As gguf-q6_k, rounded with importance weights from the training documents (llama.cpp's imatrix).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q6_k_imatrix;
const Exporter gguf_q6_k_imatrix = gguf_exporter<GgufFileType::q6_k, Quantizer::importance>(
    "gguf-q6_k-imatrix", "as gguf-q6_k, rounded with importance weights from the training documents");

}  // namespace graft::exports
