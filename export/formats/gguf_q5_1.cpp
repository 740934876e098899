// A merged GGUF model with matrices in Q5_1 (6 bits per weight).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q5_1;
const Exporter gguf_q5_1 =
    gguf_exporter<GgufFileType::q5_1>("gguf-q5_1", "merged model as one GGUF file, matrices in Q5_1 (6 bits per weight)");

}  // namespace graft::exports
