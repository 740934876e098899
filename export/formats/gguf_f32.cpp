// A merged GGUF model with matrices in f32.
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_f32;
const Exporter gguf_f32 = gguf_exporter<GgufFileType::f32>("gguf-f32", "merged model as one GGUF file, matrices in f32");

}  // namespace graft::exports
