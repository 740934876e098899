// A merged GGUF model with matrices in Q4_1 (5 bits per weight).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q4_1;
const Exporter gguf_q4_1 =
    gguf_exporter<GgufFileType::q4_1>("gguf-q4_1", "merged model as one GGUF file, matrices in Q4_1 (5 bits per weight)");

}  // namespace graft::exports
