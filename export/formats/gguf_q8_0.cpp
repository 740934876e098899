// A merged GGUF model with matrices in Q8_0 (8.5 bits per weight).
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q8_0;
const Exporter gguf_q8_0 =
    gguf_exporter<GgufFileType::q8_0>("gguf-q8_0", "merged model as one GGUF file, matrices in Q8_0 (8.5 bits per weight)");

}  // namespace graft::exports
