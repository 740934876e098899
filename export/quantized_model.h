// A merged model as a Hugging Face directory whose linears are quantized: the walk over the model, rounding, verification and the
// files beside the weights, once for the layouts of all servers. What is a layout's own is a LinearFormat (export/formats/); how
// it is read, a LinearLayout (model/layouts/). Embedding, head, norms, biases and the experts' router stay in bf16.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "export/calibration.h"
#include "export/exporter.h"
#include "export/hf_model.h"
#include "export/quantize/rounding.h"

namespace graft::exports {

struct EncodedLinear {
  std::vector<at::Tensor> parts;       // contiguous, in the order and of the sizes that `layout` says
  std::function<at::Tensor()> values;  // f32 (out, in): what they stand for, and a reader makes of them, exactly
};

struct LinearFormat {
  std::function<std::string(const model::TensorSpec& linear)> stored_as;  // as the reader calls it
  Json config;                                                            // quantization_config
  std::function<std::vector<StoredTensor>(const model::TensorSpec& linear)> layout;
  // `weight`: f32 (out, in). Called once for each linear, in the order of the model. DataError without the tensor's name.
  std::function<EncodedLinear(const model::TensorSpec& linear, const at::Tensor& weight)> encode;
  // The dimension of its parts along which rows of a linear lie, when rows from a multiple of kRowStep on can be encoded apart,
  // on several threads at once; a part of the same size for all rows does not depend on them. Empty: `encode` sees whole linears.
  std::function<std::optional<int>(const model::TensorSpec& linear)> rows_along = [](const model::TensorSpec&) {
    return std::optional<int>();
  };
  std::function<void(const model::TensorSpec& linear)> prepare = [](const model::TensorSpec&) {};  // before it is encoded
  std::map<std::string, Json> files = {};                                                          // beside config.json
  // Every tensor of the model takes a multiple of these bytes, so that none begins where its elements cannot be read.
  std::uint64_t alignment = 4;
  std::vector<std::int64_t> input_scale = {};  // shape of that tensor, where LinearRounding asks for it; of one number
};

// How codes are found: on the grids of their schemes (export/quantize/grid.h) where the layout takes such.
struct LinearRounding {
  LinearSchemes schemes = {};
  Quantizer quantizer = Quantizer::nearest;
  bool input_scales = false;   // "input_scale" of each linear, from calibration: its inputs are rounded to fp8 when served
  bool joined_scales = false;  // fp8 with one scale for all matrices that servers join (export/linear_formats.h)

  constexpr bool calibrates() const { return quantizer != Quantizer::nearest || input_scales; }
};

// A row of a table in export/formats/.
struct LinearTarget {
  // Called with `round` for writing, without it for the refusal and for verifying.
  LinearFormat (*format)(const model::ModelSpec& spec, const LinearSchemes& schemes, const RoundLinear& round);
  std::string (*refusal)(const model::ModelSpec& spec);  // beyond groups and alignment; may be null
  LinearRounding rounding;
};

std::vector<std::string> kept_plain(const model::ModelSpec& spec);  // "lm_head", "model.layers.0.mlp.gate" of each router

std::string quantized_refusal(const model::ModelSpec& spec, const LinearTarget& target);
std::string alignment_refusal(const model::ModelSpec& spec, const LinearFormat& format);

std::uint64_t quantized_bytes(const model::ModelSpec& spec, const LinearFormat& format);
std::uint64_t quantized_bytes(const model::ModelSpec& spec, const LinearTarget& target);

void write_quantized_model(const ExportRequest& request, const MergedModel& source, const LinearFormat& format,
                           const std::filesystem::path& directory, Fingerprints& made);
void write_quantized_model(const ExportRequest& request, const LinearTarget& target, const std::filesystem::path& directory,
                           Fingerprints& made);
double verify_quantized_model(const MergedModel& source, const LinearFormat& format, const model::WeightSource& written,
                              const Fingerprints& made);
double verify_quantized_model(const ExportRequest& request, const LinearTarget& target, const std::filesystem::path& written,
                              const Fingerprints& made);

template <auto format, auto refusal = nullptr, LinearRounding rounding = LinearRounding{}>
constexpr Exporter quantized_exporter(std::string_view name, std::string_view summary, std::string_view loads_in) {
  return {
      .name = name,
      .summary = summary,
      .loads_in = loads_in,
      .extension = "",
      .merges = true,
      .quantizes = true,
      .calibrates = rounding.calibrates(),
      .refusal =
          [](const model::ModelSpec& spec, const lora::LoraConfig&) {
            return quantized_refusal(spec, {format, refusal, rounding});
          },
      .bytes =
          [](const model::ModelSpec& spec) {
            return quantized_bytes(spec, {format, refusal, rounding});
          },
      .write =
          [](const ExportRequest& request, const std::filesystem::path& directory, Fingerprints& made) {
            write_quantized_model(request, {format, refusal, rounding}, directory, made);
          },
      .verify =
          [](const ExportRequest& request, const std::filesystem::path& written, const Fingerprints& made) {
            return verify_quantized_model(request, {format, refusal, rounding}, written, made);
          },
  };
}

}  // namespace graft::exports
