// A Hugging Face directory in bf16: the merged model, or the base itself, which a server needs beside a PEFT adapter when the
// base came as GGUF.
#include "export/hf_model.h"

#include "export/exporter.h"

namespace graft::exports {
namespace {

template <bool merged>
MergedModel source_of(const ExportRequest& request) {
  return {request.base, merged ? &request.adapter : nullptr, request.storage};
}

template <bool merged>
constexpr Exporter exporter(std::string_view name, std::string_view summary) {
  return {
      .name = name,
      .summary = summary,
      .loads_in = "vLLM, transformers, TensorRT-LLM, SGLang",
      .extension = "",
      .merges = merged,
      .refusal = [](const model::ModelSpec&, const lora::LoraConfig&) { return std::string(); },
      .write =
          [](const ExportRequest& request, const std::filesystem::path& target, Fingerprints& made) {
            write_hf_weights(source_of<merged>(request), bf16_encoding(made), target);
            write_hf_companions(request.base, request.stop_ids, target);
          },
      .verify = [](const ExportRequest& request, const std::filesystem::path& written,
                   const Fingerprints& made) { return verify_hf_model(source_of<merged>(request), written, made); },
  };
}

constexpr Exporter kFormats[] = {
    exporter<true>("hf", "merged model as a Hugging Face directory, safetensors in bf16"),
    exporter<false>(
        "hf-base",
        "the base without the adapter as a Hugging Face directory in bf16, to serve `peft` on when the base is a GGUF file"),
};

}  // namespace

extern const FormatFamily hf;
const FormatFamily hf = kFormats;

}  // namespace graft::exports
