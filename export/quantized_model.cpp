#include "export/quantized_model.h"

#include <ATen/ATen.h>

#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "export/linear_formats.h"
#include "export/pieces.h"
#include "export/verify.h"
#include "model/linear_layout.h"
#include "model/tensors.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

// Where all rows came at once, on all threads, and what they were made from is read again instead of being kept.
void note(Fingerprints& made, const MergedModel& source, const model::TensorSpec& tensor, const at::Tensor& values) {
  const std::vector<RowRange> pieces = pieces_of(tensor);
  on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const auto [begin, end] = pieces[static_cast<std::size_t>(i)];
    made.add(tensor.name, begin, values.narrow(0, begin, end - begin), source.rows(tensor, begin, end));
  });
}

// Notes in `made` what is written. source: null for a layout alone.
Encoding encoding_of(const LinearFormat& format, const MergedModel* source, Fingerprints& made) {
  const Encoding plain = bf16_encoding(made);
  return {[=](const model::TensorSpec& tensor) {
            return tensor.role == model::TensorRole::linear ? format.layout(tensor) : plain.layout(tensor);
          },
          [=, &made](const model::TensorSpec& tensor, std::int64_t begin, at::Tensor values) {
            if (tensor.role != model::TensorRole::linear) return plain.encode(tensor, begin, std::move(values));
            try {
              EncodedLinear encoded = format.encode(tensor, values);
              if (values.size(0) < tensor.shape[0]) {
                made.add(tensor.name, begin, encoded.values(), values);
              } else {
                values.reset();  // what is read back takes its memory
                note(made, *source, tensor, encoded.values());
              }
              return std::move(encoded.parts);
            } catch (const DataError& error) {
              throw DataError(cat("tensor ", tensor.name, ": ", error.what()));
            }
          },
          [=](const model::TensorSpec& tensor) {
            return tensor.role == model::TensorRole::linear ? format.rows_along(tensor) : std::optional(0);
          },
          [=](const model::TensorSpec& tensor) {
            if (tensor.role == model::TensorRole::linear) format.prepare(tensor);
          }};
}

// "groups of 128 do not divide ..., choose groups of 64", or empty.
std::string group_refusal(const model::ModelSpec& spec, std::int64_t group) {
  const auto undivided = [&](std::int64_t by) -> std::optional<model::TensorSpec> {
    for (const model::TensorSpec& tensor : model::tensors_of(spec))
      if (tensor.role == model::TensorRole::linear && tensor.shape[1] % by != 0) return tensor;
    return std::nullopt;
  };
  const auto tensor = undivided(group);
  if (!tensor) return "";
  std::int64_t fitting = 0;
  for (const std::int64_t other : {32, 64, 128})
    if (!undivided(other)) fitting = other;
  return cat("groups of ", group, " do not divide the rows of ", tensor->name, ", which have ", tensor->shape[1], " columns; ",
             fitting > 0 ? cat("choose groups of ", fitting) : "choose a format with one scale per row, ct-w8a8 or ct-fp8");
}

// The format with one more part in front, where its four bytes leave nothing unaligned. scale_of: empty for a layout alone.
LinearFormat with_input_scale(LinearFormat format, const std::function<float(const std::string& tensor)>& scale_of) {
  const std::vector<std::int64_t> shape = format.input_scale;
  format.layout = [=, inner = format.layout](const model::TensorSpec& linear) {
    std::vector<StoredTensor> parts = inner(linear);
    parts.insert(parts.begin(), StoredTensor{model::module_of(linear.name) + ".input_scale", DType::f32, shape});
    return parts;
  };
  format.encode = [=, inner = format.encode](const model::TensorSpec& linear, const at::Tensor& weight) {
    EncodedLinear encoded = inner(linear, weight);
    encoded.parts.insert(encoded.parts.begin(), at::full(shape, scale_of(linear.name), at::kFloat));
    return encoded;
  };
  format.rows_along = LinearFormat().rows_along;  // scale_of has one caller at a time
  return format;
}

// source: null for a layout alone.
LinearFormat format_of(const model::ModelSpec& spec, const LinearTarget& target, const RoundLinear& round,
                       Calibration* calibration, const MergedModel* source) {
  LinearFormat format = target.format(spec, target.rounding.schemes, round);
  if (source != nullptr && target.rounding.joined_scales && !by_gptq(target.rounding.quantizer))
    format = with_joined_scales(std::move(format), *source);
  if (!target.rounding.input_scales) return format;
  return with_input_scale(format, [calibration](const std::string& tensor) { return calibration->input_scale(tensor); });
}

void check_input_scales(const MergedModel& source, const model::WeightSource& written, Calibration& calibration) {
  for (const model::TensorSpec& tensor : source.tensors())
    if (tensor.role == model::TensorRole::linear)
      if (const float read = written.input_scale(tensor.name), meant = calibration.input_scale(tensor.name); read != meant)
        throw FormatError(
            cat(written.path().string(), ": the input_scale of ", tensor.name, " reads back as ", read, ", not ", meant));
}

// FormatError when a linear of the layers is not stored as it was to be.
void check_stored_as(const MergedModel& source, const model::WeightSource& written, const LinearFormat& format) {
  std::map<std::string, std::string> quantized;  // how each is to be stored
  for (const model::TensorSpec& tensor : source.tensors())
    if (tensor.role == model::TensorRole::linear) quantized.emplace(tensor.name, format.stored_as(tensor));
  for (const model::WeightInfo& weight : written.weights())
    if (const auto meant = quantized.find(weight.name); meant != quantized.end() && weight.stored_as != meant->second)
      throw FormatError(cat(written.path().string(), ": tensor ", weight.name, " is stored as ", weight.stored_as, " where ",
                            meant->second, " was written"));
}

}  // namespace

std::vector<std::string> kept_plain(const model::ModelSpec& spec) {
  std::vector<std::string> names = {"lm_head"};
  for (const model::TensorSpec& tensor : model::tensors_of(spec))
    if (tensor.role == model::TensorRole::router) names.push_back(model::module_of(tensor.name));
  return names;
}

std::string alignment_refusal(const model::ModelSpec& spec, const LinearFormat& format) {
  Fingerprints none;
  const Encoding encoding = encoding_of(format, nullptr, none);
  for (const model::TensorSpec& tensor : model::tensors_of(spec)) {
    std::uint64_t bytes = 0;
    for (const StoredTensor& part : encoding.layout(tensor)) {
      std::uint64_t size = size_of(part.type);
      if (bytes % size != 0)
        return cat(part.name, " would begin at byte ", bytes, " of its linear; readers of safetensors need multiples of ", size);
      for (const std::int64_t count : part.shape) size *= static_cast<std::uint64_t>(count);
      bytes += size;
    }
    if (bytes % format.alignment != 0)
      return cat(tensor.name, " would have ", bytes, " bytes; readers of safetensors need multiples of ", format.alignment);
  }
  return "";
}

std::string quantized_refusal(const model::ModelSpec& spec, const LinearTarget& target) {
  std::string refusal;
  if (const std::int64_t group = target.rounding.schemes.all.group; group > 0) refusal = group_refusal(spec, group);
  if (refusal.empty() && target.refusal != nullptr) refusal = target.refusal(spec);
  return refusal.empty() ? alignment_refusal(spec, format_of(spec, target, {}, nullptr, nullptr)) : refusal;
}

std::uint64_t quantized_bytes(const model::ModelSpec& spec, const LinearFormat& format) {
  Fingerprints none;
  return stored_bytes(spec, encoding_of(format, nullptr, none));
}

std::uint64_t quantized_bytes(const model::ModelSpec& spec, const LinearTarget& target) {
  return quantized_bytes(spec, format_of(spec, target, {}, nullptr, nullptr));
}

void write_quantized_model(const ExportRequest& request, const MergedModel& source, const LinearFormat& format,
                           const fs::path& directory, Fingerprints& made) {
  write_hf_weights(source, encoding_of(format, &source, made), directory, made);
  write_hf_companions(request.base, request.stop_ids, directory);
  Json config = read_json(directory / "config.json");
  config["quantization_config"] = format.config;
  write_file(directory / "config.json", config.dump(2) + "\n");
  for (const auto& [name, content] : format.files) write_file(directory / name, content.dump(2) + "\n");
}

void write_quantized_model(const ExportRequest& request, const LinearTarget& target, const fs::path& directory,
                           Fingerprints& made) {
  const auto& [schemes, quantizer, input_scales, joined_scales] = target.rounding;
  const MergedModel source = source_for(request, quantizer, schemes);
  const RoundLinear round =
      rounding_for(request, quantizer, schemes, joined_scales && by_gptq(quantizer) ? joined_grids(source) : FindGrid());
  LinearFormat format = format_of(source.spec(), target, round, request.calibration, &source);
  if (by_gptq(quantizer)) format.rows_along = LinearFormat().rows_along;  // linears are asked for in their order
  write_quantized_model(request, source, format, directory, made);
}

double verify_quantized_model(const MergedModel& source, const LinearFormat& format, const model::WeightSource& written,
                              const Fingerprints& made) {
  check_stored_as(source, written, format);
  return verify_model(source, written, made);
}

double verify_quantized_model(const ExportRequest& request, const LinearTarget& target, const fs::path& written,
                              const Fingerprints& made) {
  const auto& [schemes, quantizer, input_scales, joined_scales] = target.rounding;
  const MergedModel source = source_for(request, quantizer, schemes);
  const auto reopened = model::open_weights(written);
  if (input_scales) check_input_scales(source, *reopened, *request.calibration);
  return verify_quantized_model(source, target.format(source.spec(), schemes, {}), *reopened, made);
}

}  // namespace graft::exports
