// A merged GGUF model with matrices in bf16.
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_bf16;
const Exporter gguf_bf16 = gguf_exporter<GgufFileType::bf16>("gguf-bf16", "merged model as one GGUF file, matrices in bf16");

}  // namespace graft::exports
