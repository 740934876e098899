// The base without the adapter as one GGUF file: what `gguf-lora` is served on where the base came as a directory.
#include "core/error.h"
#include "export/gguf_model.h"

namespace graft::exports {
namespace {

// The same of an adapter that changes nothing.
ExportRequest without_adapter(const ExportRequest& request) {
  static const lora::AdapterSet kNone{};
  return {.base = request.base,
          .adapter = kNone,
          .storage = request.storage,
          .name = cat(request.name, " base"),
          .config_hash = request.config_hash,
          .stop_ids = request.stop_ids};
}

constexpr Exporter kFormats[] = {{
    .name = "gguf-base-bf16",
    .summary = "the base alone as one GGUF file in bf16, to serve `gguf-lora` on when it is a directory",
    .loads_in = "llama.cpp, Ollama",
    .extension = ".gguf",
    .merges = false,
    .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return gguf_refusal(spec); },
    .bytes = [](const model::ModelSpec& spec) { return gguf_bytes(spec, GgufFileType::bf16, Quantizer::nearest); },
    .write =
        [](const ExportRequest& request, const std::filesystem::path& target, Fingerprints& made) {
          write_gguf_model(without_adapter(request), GgufFileType::bf16, Quantizer::nearest, target, made);
        },
    .verify =
        [](const ExportRequest& request, const std::filesystem::path& written, const Fingerprints& made) {
          return verify_gguf_model(without_adapter(request), Quantizer::nearest, written, made);
        },
}};

}  // namespace

extern const FormatFamily gguf_base;
const FormatFamily gguf_base = kFormats;

}  // namespace graft::exports
