// As gguf-q5_k_m, rounded with importance weights from the training documents (llama.cpp's imatrix).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q5_k_m_imatrix;
const Exporter gguf_q5_k_m_imatrix = gguf_exporter<GgufFileType::q5_k_m, Quantizer::importance>(
    "gguf-q5_k_m-imatrix", "as gguf-q5_k_m, rounded with importance weights from the training documents");

}  // namespace graft::exports
