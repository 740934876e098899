// A merged model as a Hugging Face directory whose linears are quantized in the layout of compressed-tensors, which vLLM reads
// (docs/formats.md; layout: model/compressed_tensors.h, grids: export/quantize/grid.h). Embedding, head, norms, biases and the
// experts' router stay in bf16.
#pragma once

#include "export/calibration.h"
#include "export/exporter.h"
#include "model/compressed_tensors.h"

namespace graft::exports {

struct CompressedTarget {
  model::CompressedScheme scheme;
  bool activations = false;  // served with activations in 8 bits, one scale per token, found as they come
  Quantizer quantizer = Quantizer::nearest;
};

// Rows that the groups do not divide, or sizes that leave tensors of the file unaligned; empty when there are none.
std::string compressed_refusal(const model::ModelSpec& spec, const CompressedTarget& target);
Json quantization_config(const model::ModelSpec& spec, const CompressedTarget& target);  // as config.json holds it

void write_compressed_model(const ExportRequest& request, const CompressedTarget& target, const std::filesystem::path& directory);
// Exporter::served.
at::Tensor compressed_rows(const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows,
                           const model::CompressedScheme& scheme);
double verify_compressed_model(const ExportRequest& request, const CompressedTarget& target,
                               const std::filesystem::path& written);

// What export/formats/ct_*.cpp define.
template <CompressedTarget target>
constexpr Exporter compressed_exporter(std::string_view name, std::string_view summary) {
  return {
      .name = name,
      .summary = summary,
      .loads_in = "vLLM, transformers with compressed-tensors",
      .extension = "",
      .merges = true,
      .quantizes = true,
      .calibrates = target.quantizer != Quantizer::nearest,
      .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return compressed_refusal(spec, target); },
      .write = [](const ExportRequest& request,
                  const std::filesystem::path& directory) { write_compressed_model(request, target, directory); },
      .verify = [](const ExportRequest& request,
                   const std::filesystem::path& written) { return verify_compressed_model(request, target, written); },
      .served = target.quantizer != Quantizer::nearest
                    ? nullptr
                    : +[](const model::ModelSpec& spec, const model::TensorSpec& tensor,
                          const at::Tensor& rows) { return compressed_rows(spec, tensor, rows, target.scheme); },
  };
}

}  // namespace graft::exports
