// A merged GGUF model with matrices in Q4_K (4.5 bits per weight), a few in Q5_K.
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_k_s;
const Exporter gguf_q4_k_s = gguf_exporter<GgufFileType::q4_k_s>(
    "gguf-q4_k_s", "merged model as one GGUF file, matrices in Q4_K, a few in Q5_K (about 4.6 bits per weight)");

}  // namespace graft::exports
