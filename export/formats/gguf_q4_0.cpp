// A merged GGUF model with matrices in Q4_0 (4.5 bits per weight).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_0;
const Exporter gguf_q4_0 =
    gguf_exporter<GgufFileType::q4_0>("gguf-q4_0", "merged model as one GGUF file, matrices in Q4_0 (4.5 bits per weight)");

}  // namespace graft::exports
