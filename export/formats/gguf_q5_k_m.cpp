// A merged GGUF model with matrices in Q5_K (5.5 bits per weight), the sensitive ones in Q6_K.
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q5_k_m;
const Exporter gguf_q5_k_m = gguf_exporter<GgufFileType::q5_k_m>(
    "gguf-q5_k_m", "merged model as one GGUF file, matrices in Q5_K, sensitive ones in Q6_K (about 5.7 bits per weight)");

}  // namespace graft::exports
