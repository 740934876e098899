#include "model/compressed_tensors.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace graft::model {
namespace {

[[noreturn]] void unsupported(const std::string& origin, const std::string& what) {
  throw UnsupportedError(cat(origin, ": ", what,
                             "; graft reads compressed-tensors weights of one group of modules: int 4 or 8 and "
                             "fp8, by row or by groups of a row, and fp8 by tensors or blocks"));
}

const Json& only_group(const Json& quantization, const std::string& origin) {
  const auto groups = quantization.find("config_groups");
  if (groups == quantization.end() || !groups->is_object() || groups->empty())
    throw FormatError(cat(origin, ": config_groups is missing or not an object"));
  if (groups->size() != 1) unsupported(origin, cat("there are ", groups->size(), " groups of modules"));
  const Json& group = groups->begin().value();
  if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object())
    throw FormatError(cat(origin, ": the group has no weights"));
  return group["weights"];
}

}  // namespace

std::string CompressedScheme::stored_as() const {
  return cat(format == CompressedFormat::floating ? "FP" : "INT", bits, symmetric ? "" : " with zero points",
             group == 0 ? std::string(" by row") : cat(" by ", group));
}

CompressedScheme read_compressed_scheme(const Json& quantization, const std::string& origin) {
  const Json& weights = only_group(quantization, origin);
  CompressedScheme scheme;
  const std::string format = text_or_empty(quantization, "format"), type = text_or_empty(weights, "type"),
                    strategy = text_or_empty(weights, "strategy");
  if (format == "pack-quantized" && type == "int")
    scheme.format = CompressedFormat::packed;
  else if (format == "int-quantized" && type == "int")
    scheme.format = CompressedFormat::integer;
  else if (format == "float-quantized" && type == "float")
    scheme.format = CompressedFormat::floating;
  else
    unsupported(origin, cat("format ", quote(format), " with weights of type ", quote(type)));
  const auto bits = json_get<std::int64_t>(weights, "num_bits", origin);
  if (bits != 8 && !(bits == 4 && scheme.format == CompressedFormat::packed)) unsupported(origin, cat("num_bits is ", bits));
  scheme.bits = static_cast<int>(bits);
  scheme.symmetric = json_get<bool>(weights, "symmetric", origin);
  if (!scheme.symmetric && scheme.format != CompressedFormat::packed)
    unsupported(origin, cat("format ", quote(format), " is not symmetric"));
  if (strategy == "group") {
    scheme.group = json_get<std::int64_t>(weights, "group_size", origin);
    if (scheme.group < 1) throw FormatError(cat(origin, ": group_size is ", scheme.group));
  } else if (strategy != "channel") {
    unsupported(origin, cat("strategy ", quote(strategy)));
  }
  if (weights.contains("actorder") && !weights["actorder"].is_null() && weights["actorder"] != "weight" &&
      weights["actorder"] != "static" && weights["actorder"] != false)
    unsupported(origin, "the groups follow the activations' order");
  return scheme;
}

kernels::RowRounding read_compressed_inputs(const Json& quantization, const std::string& origin) {
  const Json inputs = json_get_or<Json>(quantization["config_groups"].begin().value(), "input_activations", Json(), origin);
  if (inputs.is_null()) return kernels::RowRounding::none;
  if (!inputs.is_object()) throw FormatError(cat(origin, ": input_activations is not an object"));
  const std::string type = text_or_empty(inputs, "type");
  if (text_or_empty(inputs, "strategy") != "token" || !json_get_or<bool>(inputs, "dynamic", false, origin) ||
      !json_get_or<bool>(inputs, "symmetric", true, origin) || json_get<std::int64_t>(inputs, "num_bits", origin) != 8 ||
      (type != "int" && type != "float"))
    unsupported(origin, "input_activations are not 8 bits by token, dynamic and symmetric");
  return type == "int" ? kernels::RowRounding::int8 : kernels::RowRounding::fp8;
}

std::optional<Fp8Tiles> read_compressed_tiles(const Json& quantization, const std::string& origin) {
  const Json& weights = only_group(quantization, origin);
  const std::string strategy = text_or_empty(weights, "strategy");
  if (text_or_empty(quantization, "format") != "float-quantized" || (strategy != "tensor" && strategy != "block"))
    return std::nullopt;
  if (const auto bits = json_get<std::int64_t>(weights, "num_bits", origin); bits != 8)
    unsupported(origin, cat("num_bits is ", bits));
  if (!json_get<bool>(weights, "symmetric", origin)) unsupported(origin, "fp8 weights are not symmetric");
  if (strategy == "block") return block_tiles(json_get<Json>(weights, "block_structure", origin), origin);
  const Json activations = json_get_or<Json>(quantization["config_groups"].begin().value(), "input_activations", Json(), origin);
  return Fp8Tiles{.rows = 0,
                  .columns = 0,
                  .input_scale = activations.is_object() && !json_get_or<bool>(activations, "dynamic", false, origin)};
}

at::Tensor pack_codes(const at::Tensor& codes, int bits) {
  const std::int64_t per_word = 32 / bits, rows = codes.size(0), columns = codes.size(1);
  const std::int64_t words = (columns + per_word - 1) / per_word;
  at::Tensor shifted = codes.to(at::kInt) + (1 << (bits - 1));
  if (words * per_word != columns)
    shifted = at::cat({shifted, at::zeros({rows, words * per_word - columns}, shifted.options())}, 1);
  shifted = shifted.view({rows, words, per_word});
  at::Tensor packed = shifted.select(2, 0).clone();
  for (std::int64_t i = 1; i < per_word; ++i) packed.bitwise_or_(at::bitwise_left_shift(shifted.select(2, i), i * bits));
  return packed;
}

at::Tensor unpack_codes(const at::Tensor& words, int bits, std::int64_t columns) {
  const std::int64_t per_word = 32 / bits;
  at::Tensor codes = at::empty({words.size(0), words.size(1), per_word}, at::kChar);
  for (std::int64_t i = 0; i < per_word; ++i)
    codes.select(2, i).copy_(at::bitwise_and(at::bitwise_right_shift(words, i * bits), (1 << bits) - 1).sub_(1 << (bits - 1)));
  return codes.view({words.size(0), words.size(1) * per_word}).narrow(1, 0, columns);
}

at::Tensor decompressed(const CompressedWeight& weight, const CompressedScheme& scheme, std::int64_t columns) {
  const std::int64_t rows = weight.scale.size(0), groups = scheme.groups(columns);
  at::Tensor values =
      (scheme.format == CompressedFormat::packed ? unpack_codes(weight.codes, scheme.bits, columns) : weight.codes)
          .to(at::kFloat)
          .contiguous()
          .view({rows, groups, columns / groups});
  if (weight.zero_point.defined()) {
    const at::Tensor zeros = unpack_codes(weight.zero_point.t().contiguous(), scheme.bits, rows).t();
    values.sub_(zeros.to(at::kFloat).unsqueeze(2));
  }
  return values.mul_(weight.scale.to(at::kFloat).unsqueeze(2)).view({rows, columns});
}

}  // namespace graft::model
