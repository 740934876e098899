// A merged GGUF model with matrices in Q4_K (4.5 bits per weight), the sensitive ones in Q6_K.
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_k_m;
const Exporter gguf_q4_k_m = gguf_exporter<GgufFileType::q4_k_m>(
    "gguf-q4_k_m", "merged model as one GGUF file, matrices in Q4_K, sensitive ones in Q6_K (about 4.9 bits per weight)");

}  // namespace graft::exports
