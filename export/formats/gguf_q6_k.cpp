// A merged GGUF model with matrices in Q6_K (6.6 bits per weight).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q6_k;
const Exporter gguf_q6_k =
    gguf_exporter<GgufFileType::q6_k>("gguf-q6_k", "merged model as one GGUF file, matrices in Q6_K (6.6 bits per weight)");

}  // namespace graft::exports
