#include "model/compressed_tensors.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/error.h"
#include "model/scaled_codes.h"

namespace graft::model {
namespace {

[[noreturn]] void unsupported(const std::string& origin, const std::string& what) {
  throw UnsupportedError(cat(origin, ": ", what,
                             "; graft reads compressed-tensors weights of int 4 or 8 and fp8, by row or by groups of a row, and "
                             "fp8 by tensors or blocks"));
}

const Json& only_group(const Json& quantization, const std::string& origin) {
  const Json& group = quantization["config_groups"].begin().value();
  if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object())
    throw FormatError(cat(origin, ": the group has no weights"));
  return group["weights"];
}

// On all threads; `columns`: the elements of a row.
template <class Each>
void for_rows(std::int64_t rows, std::int64_t columns, const Each& each) {
  constexpr std::int64_t grain = 1 << 15;
  at::parallel_for(0, rows, std::max<std::int64_t>(1, grain / std::max<std::int64_t>(1, columns)),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) each(row);
                   });
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

CompressedInputs read_compressed_inputs(const Json& quantization, const std::string& origin) {
  const Json inputs = json_get_or<Json>(quantization["config_groups"].begin().value(), "input_activations", Json(), origin);
  if (inputs.is_null()) return {};
  if (!inputs.is_object()) throw FormatError(cat(origin, ": input_activations is not an object"));
  const std::string type = text_or_empty(inputs, "type"), strategy = text_or_empty(inputs, "strategy");
  const bool dynamic = json_get_or<bool>(inputs, "dynamic", false, origin);
  const bool by_token = strategy == "token" && dynamic && (type == "int" || type == "float"),
             fixed = strategy == "tensor" && !dynamic && type == "float";
  if (!json_get_or<bool>(inputs, "symmetric", true, origin) || json_get<std::int64_t>(inputs, "num_bits", origin) != 8 ||
      (!by_token && !fixed))
    unsupported(origin,
                "input_activations are not 8 bits by token, dynamic and symmetric, nor fp8 by tensor, static and symmetric");
  return {type == "int" ? kernels::RowRounding::int8 : kernels::RowRounding::fp8, fixed};
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
  const at::Tensor bytes = codes.contiguous();
  at::Tensor packed = at::empty({rows, words}, at::kInt);
  const std::int8_t* const from = bytes.const_data_ptr<std::int8_t>();
  std::int32_t* const to = packed.mutable_data_ptr<std::int32_t>();
  const int offset = 1 << (bits - 1);
  for_rows(rows, columns, [&](std::int64_t row) {
    const std::int8_t* code = from + row * columns;
    for (std::int64_t word = 0; word < words; ++word) {
      std::uint32_t value = 0;
      const std::int64_t count = std::min(per_word, columns - word * per_word);
      for (std::int64_t i = 0; i < count; ++i)
        value |= static_cast<std::uint32_t>(code[word * per_word + i] + offset) << (i * bits);
      to[row * words + word] = static_cast<std::int32_t>(value);
    }
  });
  return packed;
}

at::Tensor unpack_codes(const at::Tensor& words, int bits, std::int64_t columns) {
  const std::int64_t per_word = 32 / bits, rows = words.size(0), row_words = words.size(1);
  const at::Tensor packed = words.contiguous();
  at::Tensor codes = at::empty({rows, columns}, at::kChar);
  const std::int32_t* const from = packed.const_data_ptr<std::int32_t>();
  std::int8_t* const to = codes.mutable_data_ptr<std::int8_t>();
  const std::uint32_t mask = (1u << bits) - 1;
  const int offset = 1 << (bits - 1);
  for_rows(rows, columns, [&](std::int64_t row) {
    for (std::int64_t word = 0; word < row_words; ++word) {
      const auto value = static_cast<std::uint32_t>(from[row * row_words + word]);
      const std::int64_t count = std::min(per_word, columns - word * per_word);
      for (std::int64_t i = 0; i < count; ++i)
        to[row * columns + word * per_word + i] = static_cast<std::int8_t>(static_cast<int>(value >> (i * bits) & mask) - offset);
    }
  });
  return codes;
}

at::Tensor decompressed(const CompressedWeight& weight, const CompressedScheme& scheme, std::int64_t columns) {
  const at::Tensor codes = scheme.format == CompressedFormat::floating ? f32_from_fp8(weight.codes)
                           : scheme.format == CompressedFormat::packed ? unpack_codes(weight.codes, scheme.bits, columns)
                                                                       : weight.codes;
  at::Tensor zeros;
  if (weight.zero_point.defined())
    zeros = unpack_codes(weight.zero_point.t().contiguous(), scheme.bits, weight.scale.size(0)).t().to(at::kFloat);
  return scaled_codes(codes, weight.scale.to(at::kFloat), zeros);
}

}  // namespace graft::model
