// Merged Hugging Face directories in the layout of compressed-tensors (docs/formats.md; layout: model/compressed_tensors.h,
// grids: export/quantize/grid.h; blocks of fp8: model/fp8_layout.h). Activations in 8 bits: one scale per token, found as they
// come, or one that calibration found.
#include <ATen/ATen.h>

#include "core/error.h"
#include "export/linear_formats.h"
#include "model/compressed_tensors.h"

namespace graft::exports {
namespace {

using model::CompressedFormat;
using model::CompressedScheme;

Json arguments(const char* type, int bits, const char* strategy) {
  return {{"num_bits", bits},     {"type", type},
          {"symmetric", true},    {"strategy", strategy},
          {"group_size", Json()}, {"block_structure", Json()},
          {"dynamic", false},     {"actorder", Json()},
          {"observer", "minmax"}, {"observer_kwargs", Json::object()}};
}

// Of activations, whose scales are found as they come.
Json dynamic(const char* type, const char* strategy) {
  Json args = arguments(type, 8, strategy);
  args["dynamic"] = true;
  args["observer"] = Json();
  return args;
}

Json group_of_modules(const std::vector<std::string>& targets, const char* format, const Json& weights, const Json& activations) {
  return {{"targets", targets},
          {"weights", weights},
          {"input_activations", activations},
          {"output_activations", Json()},
          {"format", format}};
}

Json config_of(const char* format, const Json& ignore, const Json& weights, const Json& activations) {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", Json()},
          {"kv_cache_scheme", Json()},
          {"ignore", ignore},
          {"config_groups", {{"group_0", group_of_modules({"Linear"}, format, weights, activations)}}}};
}

Json weights_of(const CompressedScheme& scheme) {
  Json weights = arguments(scheme.format == CompressedFormat::floating ? "float" : "int", scheme.bits,
                           scheme.group == 0 ? "channel" : "group");
  weights["symmetric"] = scheme.symmetric;
  if (scheme.group > 0) weights["group_size"] = scheme.group;
  return weights;
}

Json config_of(const model::ModelSpec& spec, const LinearSchemes& schemes) {
  const CompressedScheme& scheme = schemes.all;
  const Json weights = weights_of(scheme);
  Json ignore = {"lm_head"};
  if (spec.moe.experts > 0) ignore.push_back(cat("re:.*", spec.moe.block, "\\.gate$"));
  if (scheme.format != CompressedFormat::packed) {
    const bool integer = scheme.format == CompressedFormat::integer;
    return config_of(integer ? "int-quantized" : "float-quantized", ignore, weights, dynamic(integer ? "int" : "float", "token"));
  }
  Json config = config_of("pack-quantized", ignore, weights, Json());
  if (schemes.mixed)
    config["config_groups"]["group_1"] =
        group_of_modules(sensitive_linears(spec), "pack-quantized", weights_of(schemes.sensitive), Json());
  return config;
}

std::vector<StoredTensor> layout_of(const model::TensorSpec& linear, const CompressedScheme& scheme) {
  const std::int64_t rows = linear.shape[0], columns = linear.shape[1], groups = scheme.groups(columns);
  const StoredTensor scale = {linear.name + "_scale", DType::bf16, {rows, groups}};
  if (scheme.format != CompressedFormat::packed)
    return {{linear.name, scheme.format == CompressedFormat::integer ? DType::i8 : DType::f8_e4m3, linear.shape}, scale};
  const std::int64_t per_word = 32 / scheme.bits;
  std::vector<StoredTensor> parts = {{linear.name + "_shape", DType::i64, {2}},
                                     {linear.name + "_packed", DType::i32, {rows, (columns + per_word - 1) / per_word}},
                                     scale};
  if (!scheme.symmetric) parts.push_back({linear.name + "_zero_point", DType::i32, {(rows + per_word - 1) / per_word, groups}});
  return parts;
}

LinearFormat grid_format(const model::ModelSpec& spec, const LinearSchemes& schemes, const RoundLinear& round) {
  const auto scheme_of = schemes.of(spec);
  return {
      .stored_as = [scheme_of](const model::TensorSpec& linear) { return scheme_of(linear.name).stored_as(); },
      .config = config_of(spec, schemes),
      .layout = [scheme_of](const model::TensorSpec& linear) { return layout_of(linear, scheme_of(linear.name)); },
      .encode =
          [scheme_of, round](const model::TensorSpec& linear, const at::Tensor& values) {
            const CompressedScheme scheme = scheme_of(linear.name);
            const Rounded rounded = round(linear, values);
            const model::CompressedWeight weight = compressed(rounded.grid, rounded.codes, scheme);
            std::vector<at::Tensor> parts = {weight.codes, weight.scale};
            if (scheme.format == CompressedFormat::packed) parts.insert(parts.begin(), at::tensor(linear.shape, at::kLong));
            if (weight.zero_point.defined()) parts.push_back(weight.zero_point);
            return EncodedLinear{parts, [rounded] { return rounded.values(); }};
          },
      .rows_along =
          [scheme_of](const model::TensorSpec& linear) {  // zero points of several rows share a word
            const CompressedScheme scheme = scheme_of(linear.name);
            return scheme.symmetric || linear.shape[0] % (32 / scheme.bits) == 0 ? std::optional(0) : std::nullopt;
          },
      .alignment = schemes.all.format == CompressedFormat::packed ? 8u : 4u,  // weight_shape is I64
  };
}

LinearFormat fp8_static_format(const model::ModelSpec& spec, const LinearSchemes& schemes, const RoundLinear& round) {
  LinearFormat format = grid_format(spec, schemes, round);
  format.config["config_groups"]["group_0"]["input_activations"] = arguments("float", 8, "tensor");
  format.input_scale = {1};
  return format;
}

// vLLM's CompressedTensorsW8A8Fp8MoEMethod.
std::string fp8_static_refusal(const model::ModelSpec& spec) {
  return spec.moe.experts > 0 ? "vLLM serves experts in fp8 by row with activations scaled as they come alone; choose ct-fp8"
                              : "";
}

LinearFormat fp8_block_format(const model::ModelSpec& spec, const LinearSchemes&, const RoundLinear&) {
  Json weights = arguments("float", 8, "block"), activations = dynamic("float", "group");
  weights["block_structure"] = {kFp8Block, kFp8Block};
  activations["group_size"] = kFp8Block;
  return tiles_format({.rows = kFp8Block, .columns = kFp8Block, .input_scale = false}, "_scale", 2,
                      config_of("float-quantized", kept_plain(spec), weights, activations));
}

constexpr CompressedScheme int4(std::int64_t group) { return {CompressedFormat::packed, 4, group, true}; }
constexpr CompressedScheme int4_with_zeros(std::int64_t group) { return {CompressedFormat::packed, 4, group, false}; }
constexpr CompressedScheme int8(std::int64_t group) { return {CompressedFormat::packed, 8, group, true}; }
constexpr LinearSchemes int4_and_int8(std::int64_t group) {
  return {int4_with_zeros(group), {CompressedFormat::packed, 8, 0, true}};
}
constexpr CompressedScheme int8_by_row = {CompressedFormat::integer, 8, 0, true};

std::string experts_refusal(const model::ModelSpec& spec) {
  return spec.moe.experts > 0 ? "no server was seen to take experts in more than one width; choose ct-w4a16-asym-g32-awq-gptq"
                              : "";
}

// Exporter::served.
at::Tensor rows_on(const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows,
                   const LinearSchemes& schemes) {
  if (tensor.role != model::TensorRole::linear) return rows.to(at::kBFloat16).to(at::kFloat);
  return nearest_values(rows, schemes.of(spec)(tensor.name));
}

template <LinearSchemes schemes, Quantizer quantizer = Quantizer::nearest>
constexpr Exporter exporter(std::string_view name, std::string_view summary) {
  Exporter made = quantized_exporter < grid_format, schemes.mixed ? experts_refusal : nullptr,
           LinearRounding{schemes, quantizer} > (name, summary, "vLLM, transformers with compressed-tensors");
  if constexpr (quantizer == Quantizer::nearest || quantizer == Quantizer::awq)
    made.served = [](const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows) {
      return rows_on(spec, tensor, rows, schemes);
    };
  if constexpr (quantizer == Quantizer::awq)
    made.folds = [](Calibration& calibration) -> const Folds& { return calibration.folds(quantizer, schemes.all); };
  return made;
}

constexpr Exporter kFormats[] = {
    exporter<int8_by_row>("ct-w8a8", "merged model as a compressed-tensors directory, linears and activations in int8 (W8A8)"),
    exporter<int8_by_row, Quantizer::smooth>("ct-w8a8-smooth",
                                             "as ct-w8a8, outliers of the activations moved into the weights by SmoothQuant"),
    exporter<kFp8ByRow>("ct-fp8", "merged model as a compressed-tensors directory, linears and activations in fp8 (FP8_DYNAMIC)"),
    exporter<kFp8ByRow, Quantizer::gptq>("ct-fp8-gptq", "as ct-fp8, rounded by GPTQ for the training documents"),
    quantized_exporter<fp8_static_format, fp8_static_refusal, LinearRounding{.schemes = kFp8ByRow, .input_scales = true}>(
        "ct-fp8-static", "as ct-fp8, activations on one scale for each linear, found in the training documents",
        "vLLM, transformers with compressed-tensors"),
    quantized_exporter<fp8_block_format, fp8_block_refusal>(
        "ct-fp8-block", "merged model as a compressed-tensors directory, linears in fp8 by blocks of 128 x 128 (FP8_BLOCK)",
        "vLLM, TensorRT-LLM, transformers with compressed-tensors"),
    exporter<int8(32)>("ct-w8a16-g32", "merged model as a compressed-tensors directory, linears in int8 by groups of 32 (W8A16)"),
    exporter<int8(64)>("ct-w8a16-g64", "merged model as a compressed-tensors directory, linears in int8 by groups of 64 (W8A16)"),
    exporter<int8(128)>("ct-w8a16-g128",
                        "merged model as a compressed-tensors directory, linears in int8 by groups of 128 (W8A16)"),
    exporter<int4(32)>("ct-w4a16-g32", "merged model as a compressed-tensors directory, linears in int4 by groups of 32 (W4A16)"),
    exporter<int4(64)>("ct-w4a16-g64", "merged model as a compressed-tensors directory, linears in int4 by groups of 64 (W4A16)"),
    exporter<int4(128)>("ct-w4a16-g128",
                        "merged model as a compressed-tensors directory, linears in int4 by groups of 128 (W4A16)"),
    exporter<int4(32), Quantizer::gptq>("ct-w4a16-g32-gptq", "as ct-w4a16-g32, rounded by GPTQ for the training documents"),
    exporter<int4(64), Quantizer::gptq>("ct-w4a16-g64-gptq", "as ct-w4a16-g64, rounded by GPTQ for the training documents"),
    exporter<int4(128), Quantizer::gptq>("ct-w4a16-g128-gptq", "as ct-w4a16-g128, rounded by GPTQ for the training documents"),
    exporter<int4_with_zeros(32)>(
        "ct-w4a16-asym-g32",
        "merged model as a compressed-tensors directory, linears in int4 with zero points by groups of 32 (W4A16_ASYM)"),
    exporter<int4_with_zeros(64)>(
        "ct-w4a16-asym-g64",
        "merged model as a compressed-tensors directory, linears in int4 with zero points by groups of 64 (W4A16_ASYM)"),
    exporter<int4_with_zeros(128)>(
        "ct-w4a16-asym-g128",
        "merged model as a compressed-tensors directory, linears in int4 with zero points by groups of 128 (W4A16_ASYM)"),
    exporter<int4_with_zeros(32), Quantizer::awq>("ct-w4a16-asym-g32-awq",
                                                  "as ct-w4a16-asym-g32, channels scaled by AWQ for the training documents"),
    exporter<int4_with_zeros(64), Quantizer::awq>("ct-w4a16-asym-g64-awq",
                                                  "as ct-w4a16-asym-g64, channels scaled by AWQ for the training documents"),
    exporter<int4_with_zeros(128), Quantizer::awq>("ct-w4a16-asym-g128-awq",
                                                   "as ct-w4a16-asym-g128, channels scaled by AWQ for the training documents"),
    exporter<int4_with_zeros(32), Quantizer::awq_gptq>("ct-w4a16-asym-g32-awq-gptq",
                                                       "as ct-w4a16-asym-g32-awq, then rounded by GPTQ"),
    exporter<int4_with_zeros(64), Quantizer::awq_gptq>("ct-w4a16-asym-g64-awq-gptq",
                                                       "as ct-w4a16-asym-g64-awq, then rounded by GPTQ"),
    exporter<int4_with_zeros(128), Quantizer::awq_gptq>("ct-w4a16-asym-g128-awq-gptq",
                                                        "as ct-w4a16-asym-g128-awq, then rounded by GPTQ"),
    exporter<int4_and_int8(32)>("ct-w4w8a16-asym-g32",
                                "as ct-w4a16-asym-g32, but q, k, v and the first and last MLPs in int8, one scale per row"),
    exporter<int4_and_int8(32), Quantizer::awq>("ct-w4w8a16-asym-g32-awq",
                                                "as ct-w4w8a16-asym-g32, channels scaled by AWQ for the training documents"),
    exporter<int4_and_int8(32), Quantizer::awq_gptq>("ct-w4w8a16-asym-g32-awq-gptq",
                                                     "as ct-w4w8a16-asym-g32-awq, then rounded by GPTQ"),
};

}  // namespace

extern const FormatFamily compressed_tensors;
const FormatFamily compressed_tensors = kFormats;

}  // namespace graft::exports
