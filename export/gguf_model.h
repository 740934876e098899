// A whole model as one GGUF file (docs/formats.md), as llama.cpp's convert_hf_to_gguf.py writes it: names, the q/k row order of
// the llama architecture, Gemma's 1 + w, f32 for vectors and norms, metadata, tokenizer and chat template.
#pragma once

#include <filesystem>
#include <string>

#include "core/gguf.h"
#include "export/calibration.h"
#include "export/exporter.h"
#include "export/gguf_mix.h"

namespace graft::exports {

// quantizer: nearest, importance, or for q4_0 one of GPTQ: then codes of that rounding stand where the type is Q4_0, in linears.
void write_gguf_model(const ExportRequest& request, GgufFileType file, Quantizer quantizer, const std::filesystem::path& target,
                      Fingerprints& made);
std::uint64_t gguf_bytes(const model::ModelSpec& spec, GgufFileType file, Quantizer quantizer);
// Exporter::served. GGUF permutes rows of q and k, which does not change them.
at::Tensor gguf_rows(const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows, GgufFileType file);
double verify_gguf_model(const ExportRequest& request, Quantizer quantizer, const std::filesystem::path& written,
                         const Fingerprints& made);

// Why llama.cpp has no place for this model, or the quantizer none in its blocks, or empty.
std::string gguf_refusal(const model::ModelSpec& spec, Quantizer quantizer = Quantizer::nearest);

// The format of one kind of file: a row of the table in export/formats/gguf.cpp.
template <GgufFileType file, Quantizer quantizer = Quantizer::nearest>
constexpr Exporter gguf_exporter(std::string_view name, std::string_view summary) {
  static_assert(!by_gptq(quantizer) || file == GgufFileType::q4_0, "no other type's blocks are made of GPTQ's codes");
  return {
      .name = name,
      .summary = summary,
      .loads_in = "llama.cpp, Ollama",
      .extension = ".gguf",
      .merges = true,
      .quantizes = file != GgufFileType::f32 && file != GgufFileType::f16 && file != GgufFileType::bf16,
      .calibrates = quantizer != Quantizer::nearest,
      .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return gguf_refusal(spec, quantizer); },
      .bytes = [](const model::ModelSpec& spec) { return gguf_bytes(spec, file, quantizer); },
      .write = [](const ExportRequest& request, const std::filesystem::path& target,
                  Fingerprints& made) { write_gguf_model(request, file, quantizer, target, made); },
      .verify = [](const ExportRequest& request, const std::filesystem::path& written,
                   const Fingerprints& made) { return verify_gguf_model(request, quantizer, written, made); },
      .served = quantizer != Quantizer::nearest ? nullptr
                                                : +[](const model::ModelSpec& spec, const model::TensorSpec& tensor,
                                                      const at::Tensor& rows) { return gguf_rows(spec, tensor, rows, file); },
  };
}

// YaRN's beta_fast and beta_slow are keys of GGUF that llama.cpp does not read for graft's families (src/models/).
bool has_betas_of_its_own(const model::RopeSpec& rope);

// Whether the family's GGUF architecture has q and k in the order of neighbours (model/rotary_rows.h).
bool interleaves_rotary_rows(const model::ModelSpec& spec);

}  // namespace graft::exports
