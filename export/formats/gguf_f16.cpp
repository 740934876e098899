// A merged GGUF model with matrices in f16.
#include "core/gguf.h"
#include "export/exporter.h"
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_f16;
const Exporter gguf_f16 = {
    .name = "gguf-f16",
    .summary = "merged model as one GGUF file, matrices in f16",
    .loads_in = "llama.cpp, Ollama",
    .extension = ".gguf",
    .merges = true,
    .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return gguf_refusal(spec); },
    .write = [](const ExportRequest& request,
                const std::filesystem::path& target) { write_gguf_model(request, GgmlType::f16, target); },
    .verify = verify_gguf_model,
};

}  // namespace graft::exports
