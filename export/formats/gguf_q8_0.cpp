// A merged GGUF model with matrices in Q8_0 (8.5 bits per weight).
#include "core/gguf.h"
#include "export/exporter.h"
#include "export/gguf_model.h"

namespace graft::exports {

extern const Exporter gguf_q8_0;
const Exporter gguf_q8_0 = {
    .name = "gguf-q8_0",
    .summary = "merged model as one GGUF file, matrices in Q8_0 (8.5 bits per weight)",
    .loads_in = "llama.cpp, Ollama",
    .extension = ".gguf",
    .merges = true,
    .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return gguf_refusal(spec); },
    .write = [](const ExportRequest& request,
                const std::filesystem::path& target) { write_gguf_model(request, GgmlType::q8_0, target); },
    .verify = verify_gguf_model,
};

}  // namespace graft::exports
