// As gguf-q4_k_s, rounded with importance weights from the training documents (llama.cpp's imatrix).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_k_s_imatrix;
const Exporter gguf_q4_k_s_imatrix = gguf_exporter<GgufFileType::q4_k_s, Quantizer::importance>(
    "gguf-q4_k_s-imatrix", "as gguf-q4_k_s, rounded with importance weights from the training documents");

}  // namespace graft::exports
