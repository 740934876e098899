// A merged GGUF model with matrices in Q5_0 (5.5 bits per weight).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q5_0;
const Exporter gguf_q5_0 =
    gguf_exporter<GgufFileType::q5_0>("gguf-q5_0", "merged model as one GGUF file, matrices in Q5_0 (5.5 bits per weight)");

}  // namespace graft::exports
