// The base itself as a Hugging Face directory in bf16: what a server needs beside a PEFT adapter when the base came as GGUF.
#include "export/exporter.h"
#include "export/hf_model.h"

namespace graft::exports {

extern const Exporter hf_base;
const Exporter hf_base = {
    .name = "hf-base",
    .summary =
        "the base without the adapter as a Hugging Face directory in bf16, to serve `peft` on when the base is a GGUF file",
    .loads_in = "vLLM, transformers, TensorRT-LLM, SGLang",
    .extension = "",
    .merges = false,
    .refusal = [](const model::ModelSpec&, const lora::LoraConfig&) { return std::string(); },
    .write =
        [](const ExportRequest& request, const std::filesystem::path& target) {
          write_hf_weights({request.base, nullptr, request.storage}, bf16_encoding(), target);
          write_hf_companions(request.base, target);
        },
    .verify =
        [](const ExportRequest& request, const std::filesystem::path& written) {
          return verify_hf_model({request.base, nullptr, request.storage}, written);
        },
};

}  // namespace graft::exports
