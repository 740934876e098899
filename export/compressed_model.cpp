#include "export/compressed_model.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/file.h"
#include "export/hf_model.h"
#include "export/quantized_model.h"
#include "export/verify.h"
#include "model/tensors.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

using model::CompressedFormat;

constexpr std::uint64_t kAlignment = 8;  // of a tensor in the file; readers view its bytes as the element type

std::vector<StoredTensor> layout_of(const model::TensorSpec& tensor, const model::CompressedScheme& scheme) {
  const std::int64_t rows = tensor.shape[0], columns = tensor.shape[1], groups = scheme.groups(columns);
  const StoredTensor scale = {tensor.name + "_scale", DType::bf16, {rows, groups}};
  if (scheme.format != CompressedFormat::packed)
    return {{tensor.name, scheme.format == CompressedFormat::integer ? DType::i8 : DType::f8_e4m3, tensor.shape}, scale};
  const std::int64_t per_word = 32 / scheme.bits;
  std::vector<StoredTensor> parts = {{tensor.name + "_shape", DType::i64, {2}},
                                     {tensor.name + "_packed", DType::i32, {rows, (columns + per_word - 1) / per_word}},
                                     scale};
  if (!scheme.symmetric) parts.push_back({tensor.name + "_zero_point", DType::i32, {(rows + per_word - 1) / per_word, groups}});
  return parts;
}

Encoding encoding_of(const model::ModelSpec& spec, const model::CompressedScheme& scheme, const RoundLinear& round) {
  const Encoding plain = bf16_encoding();
  return {[=](const model::TensorSpec& tensor) {
            return is_quantized_linear(spec, tensor) ? layout_of(tensor, scheme) : plain.layout(tensor);
          },
          [=](const model::TensorSpec& tensor, const at::Tensor& values) {
            if (!is_quantized_linear(spec, tensor)) return plain.encode(tensor, values);
            try {
              const Rounded rounded = round(tensor, values);
              const model::CompressedWeight weight = compressed(rounded.grid, rounded.codes, scheme);
              std::vector<at::Tensor> parts = {weight.codes, weight.scale};
              if (scheme.format == CompressedFormat::packed) parts.insert(parts.begin(), at::tensor(tensor.shape, at::kLong));
              if (weight.zero_point.defined()) parts.push_back(weight.zero_point);
              return parts;
            } catch (const DataError& error) {
              throw DataError(cat("tensor ", tensor.name, ": ", error.what()));
            }
          }};
}

Json quantization_args(const CompressedTarget& target) {
  const model::CompressedScheme& scheme = target.scheme;
  return {{"num_bits", scheme.bits},
          {"type", scheme.format == CompressedFormat::floating ? "float" : "int"},
          {"symmetric", scheme.symmetric},
          {"strategy", scheme.group == 0 ? "channel" : "group"},
          {"group_size", scheme.group == 0 ? Json() : Json(scheme.group)},
          {"block_structure", Json()},
          {"dynamic", false},
          {"actorder", Json()},
          {"observer", "minmax"},
          {"observer_kwargs", Json::object()}};
}

Json activation_args(const CompressedTarget& target) {
  if (!target.activations) return {};
  Json args = quantization_args(target);
  args["symmetric"] = true;
  args["strategy"] = "token";
  args["group_size"] = Json();
  args["dynamic"] = true;
  args["observer"] = Json();
  return args;
}

}  // namespace

std::string compressed_refusal(const model::ModelSpec& spec, const CompressedTarget& target) {
  const model::CompressedScheme& scheme = target.scheme;
  if (scheme.group > 0)
    if (const std::string refusal = group_refusal(spec, scheme.group); !refusal.empty()) return refusal;
  for (const model::TensorSpec& tensor : model::tensors_of(spec)) {
    if (!is_quantized_linear(spec, tensor)) continue;
    for (const StoredTensor& part : layout_of(tensor, scheme)) {
      std::uint64_t bytes = size_of(part.type);
      for (const std::int64_t size : part.shape) bytes *= static_cast<std::uint64_t>(size);
      if (bytes % kAlignment != 0)
        return cat(part.name, " would have ", bytes, " bytes; readers of safetensors need multiples of ", kAlignment);
    }
  }
  return "";
}

Json quantization_config(const model::ModelSpec& spec, const CompressedTarget& target) {
  const char* format = target.scheme.format == CompressedFormat::packed    ? "pack-quantized"
                       : target.scheme.format == CompressedFormat::integer ? "int-quantized"
                                                                           : "float-quantized";
  Json ignore = {"lm_head"};
  if (spec.moe.experts > 0) ignore.push_back(cat("re:.*", spec.moe.block, "\\.gate$"));
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", Json()},
          {"kv_cache_scheme", Json()},
          {"ignore", ignore},
          {"config_groups",
           {{"group_0",
             {{"targets", Json::array({"Linear"})},
              {"weights", quantization_args(target)},
              {"input_activations", activation_args(target)},
              {"output_activations", Json()},
              {"format", format}}}}}};
}

void write_compressed_model(const ExportRequest& request, const CompressedTarget& target, const fs::path& directory) {
  const MergedModel source = source_for(request, target.quantizer, target.scheme);
  write_hf_weights(source, encoding_of(source.spec(), target.scheme, rounding_for(request, target.quantizer, target.scheme)),
                   directory);
  write_hf_companions(request.base, directory);
  Json config = read_json(directory / "config.json");
  config["quantization_config"] = quantization_config(source.spec(), target);
  write_file(directory / "config.json", config.dump(2) + "\n");
}

at::Tensor compressed_rows(const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows,
                           const model::CompressedScheme& scheme) {
  if (!is_quantized_linear(spec, tensor)) return rows.to(at::kBFloat16).to(at::kFloat);
  const Grid grid = grid_of(rows, scheme);
  at::Tensor codes = codes_on(grid, rows, scheme).view({rows.size(0), grid.scale.size(1), -1});
  if (grid.zero.defined()) codes.sub_(grid.zero.unsqueeze(2));
  return codes.mul_(grid.scale.unsqueeze(2)).view(rows.sizes());
}

double verify_compressed_model(const ExportRequest& request, const CompressedTarget& target, const fs::path& written) {
  const MergedModel source = source_for(request, target.quantizer, target.scheme);
  const auto reopened = model::open_weights(written);
  check_stored_as(source, *reopened, target.scheme.stored_as());
  const auto expected = [&](const model::TensorSpec& tensor, const std::string&, const at::Tensor& values) {
    return rounded_values(request, target.quantizer, target.scheme, tensor.name, values, *reopened);
  };
  return verify_model(source, *reopened, expected);
}

}  // namespace graft::exports
