// A merged Hugging Face directory in bf16.
#include "export/exporter.h"
#include "export/hf_model.h"

namespace graft::exports {

extern const Exporter hf;
const Exporter hf = {
    .name = "hf",
    .summary = "merged model as a Hugging Face directory, safetensors in bf16",
    .loads_in = "vLLM, transformers, TensorRT-LLM, SGLang",
    .extension = "",
    .merges = true,
    .refusal = [](const model::ModelSpec&, const lora::LoraConfig&) { return std::string(); },
    .write =
        [](const ExportRequest& request, const std::filesystem::path& target) {
          write_hf_weights({request.base, &request.adapter, request.storage}, bf16_encoding(), target);
          write_hf_companions(request.base, target);
        },
    .verify =
        [](const ExportRequest& request, const std::filesystem::path& written) {
          return verify_hf_model({request.base, &request.adapter, request.storage}, written);
        },
};

}  // namespace graft::exports
