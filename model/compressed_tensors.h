// Quantized linears of a Hugging Face directory in the layout of compressed-tensors (its compressors/pack_quantized and
// naive_quantized): what graft's own exports have, and what others write in the same way.
//
//   pack-quantized    weight_packed I32 (out, ceil(in / n)), n = 32 / bits codes per word, lowest bits first, stored as
//                     q + 2^(bits-1); weight_shape I64 (2) = (out, in); weight_zero_point I32 (ceil(out / n), groups), packed
//                     along the rows, when not symmetric
//   int-quantized     weight I8 (out, in)
//   float-quantized   weight F8_E4M3 (out, in)
//   all               weight_scale F32, F16 or BF16 (out, groups); one group per row when the strategy is "channel"; input_scale
//                     F32, one number, when the input_activations are static
//   value             (q - zero) * scale      in f32
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/json.h"
#include "model/fp8_layout.h"

namespace graft::model {

enum class CompressedFormat { packed, integer, floating };

struct CompressedScheme {
  CompressedFormat format = CompressedFormat::packed;
  int bits = 4;
  std::int64_t group = 0;  // elements of a row that share a scale; 0: the whole row
  bool symmetric = true;

  std::int64_t groups(std::int64_t columns) const { return group == 0 ? 1 : columns / group; }
  std::string stored_as() const;  // "INT4 by 64", "INT8 by row", "FP8 by row"
};

// Of a quantization_config of quant_method compressed-tensors with one group of modules in its config_groups: the scheme.
// UnsupportedError, which begins with `origin`, for a kind of weights not listed above.
CompressedScheme read_compressed_scheme(const Json& quantization, const std::string& origin);
// What becomes of the inputs of linears of that scheme: "token", dynamic, in 8 bits, or "tensor", static, in fp8.
// UnsupportedError for another kind of input_activations.
struct CompressedInputs {
  kernels::RowRounding rounding = kernels::RowRounding::none;
  bool fixed = false;  // input_scale
};
CompressedInputs read_compressed_inputs(const Json& quantization, const std::string& origin);
// Its tiles when it is float-quantized with the strategy "tensor" or "block" (model/fp8_layout.h); empty for the schemes above.
std::optional<Fp8Tiles> read_compressed_tiles(const Json& quantization, const std::string& origin);

// One linear's tensors as they are in the file. zero_point undefined when symmetric.
struct CompressedWeight {
  at::Tensor codes;       // packed: I32 (out, words); else I8 or F8_E4M3 (out, in)
  at::Tensor scale;       // (out, groups)
  at::Tensor zero_point;  // I32 (ceil(out / n), groups)
};
at::Tensor decompressed(const CompressedWeight& weight, const CompressedScheme& scheme, std::int64_t columns);  // f32 (out, in)

// Codes of `bits` in -2^(bits-1) .. 2^(bits-1) - 1, I8 (rows, columns), along the rows into I32 (rows, ceil(columns / n)); unused
// bits are zero. Back again: the first `columns` of each row.
at::Tensor pack_codes(const at::Tensor& codes, int bits);
at::Tensor unpack_codes(const at::Tensor& words, int bits, std::int64_t columns);

}  // namespace graft::model
