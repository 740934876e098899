// A merged GGUF model with matrices in f16.
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_f16;
const Exporter gguf_f16 = gguf_exporter<GgufFileType::f16>("gguf-f16", "merged model as one GGUF file, matrices in f16");

}  // namespace graft::exports
