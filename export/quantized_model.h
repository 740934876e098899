// A merged model as a Hugging Face directory whose linears are quantized: what the layouts of several servers have in common.
// Embedding, head, norms, biases and the experts' router stay in bf16. Layouts as they are read: model/layouts/.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "export/exporter.h"
#include "export/hf_model.h"

namespace graft::exports {

bool is_quantized_linear(const model::ModelSpec& spec, const model::TensorSpec& tensor);  // a linear of the layers
std::vector<std::string> routers_of(const model::ModelSpec& spec);  // "model.layers.0.mlp.gate"; none when dense

struct EncodedLinear {
  std::vector<at::Tensor> parts;  // contiguous, in the order and of the sizes that `layout` says
  at::Tensor values;              // f32 (out, in): what must be read back, exactly
};

struct LinearFormat {
  std::string stored_as;  // as the reader calls it
  Json config;            // quantization_config
  std::function<std::vector<StoredTensor>(const model::TensorSpec& linear)> layout;
  // `weight`: f32 (out, in). Called once for each linear, in the order of the model. DataError without the tensor's name.
  std::function<EncodedLinear(const model::TensorSpec& linear, const at::Tensor& weight)> encode;
  std::map<std::string, Json> files = {};  // beside config.json
};

// Where readers of safetensors would find a tensor that does not begin at a multiple of its element size; empty: nowhere.
std::string alignment_refusal(const model::ModelSpec& spec, const LinearFormat& format);
// "groups of 128 do not divide ..., choose groups of 64", or empty.
std::string group_refusal(const model::ModelSpec& spec, std::int64_t group);

// FormatError when a linear of the layers is not stored as it was to be.
void check_stored_as(const MergedModel& source, const model::WeightSource& written, const std::string& stored_as);

void write_quantized_model(const MergedModel& source, const LinearFormat& format, const std::filesystem::path& directory);
double verify_quantized_model(const MergedModel& source, const LinearFormat& format, const std::filesystem::path& written);

// What a file in export/formats/ defines. `make` is called for writing and again for verifying.
template <LinearFormat (*make)(const model::ModelSpec&), std::string (*refusal)(const model::ModelSpec&)>
constexpr Exporter quantized_exporter(std::string_view name, std::string_view summary, std::string_view loads_in) {
  return {
      .name = name,
      .summary = summary,
      .loads_in = loads_in,
      .extension = "",
      .merges = true,
      .quantizes = true,
      .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return refusal(spec); },
      .write =
          [](const ExportRequest& request, const std::filesystem::path& directory) {
            const MergedModel source(request.base, &request.adapter, request.storage);
            write_quantized_model(source, make(source.spec()), directory);
          },
      .verify =
          [](const ExportRequest& request, const std::filesystem::path& written) {
            const MergedModel source(request.base, &request.adapter, request.storage);
            return verify_quantized_model(source, make(source.spec()), written);
          },
  };
}

}  // namespace graft::exports
